"""Detect changes of the tensors and modules from which a fused graph was made."""

from collections.abc import Iterable
from itertools import repeat
from operator import attrgetter, contains, getitem, is_
from typing import Any

import torch
from torch import Tensor, fx, nn

from proxconnect.deploy.packed.layers.base import CompactLayer

_Place = tuple[dict[str, Any], str]
"""A dictionary of a module, as `_parameters`, and a key of it."""

_UNREAD = ("prepacked", "num_batches_tracked")
"""The buffers that graphs do not depend on. Prepacked weights are made from `bits`."""

_version = attrgetter("_version")
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class Sources:
    """A snapshot of the tensors and modules from which a fused graph was made, to tell if the graph may still run.

    `graph` is the traced graph of the module `root`, and `read` are the modules whose values were copied into it.
    Methods run before every run of the graph, and so are loops in C over lists that were made once.
    """

    def __init__(self, root: nn.Module, graph: fx.Graph, read: Iterable[nn.Module]) -> None:
        self._read = [root, *read]
        places: list[_Place] = [(m._parameters, n) for m in self._read[1:] for n in m._parameters]
        places += [(m._buffers, n) for m in self._read[1:] for n in m._buffers if n not in _UNREAD]
        for owner_name, _, name in (str(n.target).rpartition(".") for n in graph.nodes if n.op == "get_attr"):
            owner = root.get_submodule(owner_name)
            places.append((next(d for d in (owner._parameters, owner._buffers, vars(owner)) if name in d), name))
        places += [(vars(m), n) for m in root.modules() for n, value in vars(m).items() if isinstance(value, Tensor)]
        owners = [m for m in self._read[1:] if not isinstance(m, CompactLayer)]  # whose numbers are their shapes
        numbers = [(vars(m), n) for m in owners for n, value in vars(m).items() if type(value) in (int, float)]
        places += [(held, n) for held, n in numbers if n not in ("momentum", "num_features")]  # as eps of a norm
        self._tensors = [tensor for registry, name in places if isinstance(tensor := registry[name], Tensor)]
        self._counted = [tensor for tensor in self._tensors if not tensor.is_inference()]
        self._versions = self._versions_now()
        self._modules = [m._modules for m in root.modules() if m._modules or isinstance(m, _CONTAINERS)]
        self._counts = [*map(len, self._modules)]
        inner: list[_Place] = [(modules, name) for modules in self._modules for name in modules]
        self._registries = [registry for registry, _ in (*places, *inner)]
        self._names = [name for _, name in (*places, *inner)]
        self._held = [*map(getitem, self._registries, self._names)]
        self._parameters = list(root.parameters())
        inner_modules = [m for m in root.modules() if m is not root]
        self._hooks = [hooks for m in inner_modules for hooks in (m._forward_hooks, m._forward_pre_hooks)]
        self._own = [vars(m) for m in inner_modules if "forward" not in vars(m)]
        """The attributes of inner modules, which contain `forward` after it was replaced."""

    def have_changed(self) -> bool:
        """Return True if a tensor, a module or a number of one, such as `eps`, was changed since the snapshot."""
        if self._versions_now() != self._versions or [*map(len, self._modules)] != self._counts:
            return True
        return not all(map(is_, map(dict.get, self._registries, self._names), self._held))

    def _versions_now(self) -> tuple[list[int], list[int]]:
        """Return the in-place writes and the address of each tensor; `tensor.data = ...` changes the address."""
        return [*map(_version, self._counted)], [*map(Tensor.data_ptr, self._tensors)]

    def allow_graph(self) -> bool:
        """Return False if a hook or a replaced forward of an inner module, gradients or training forbid the graph."""
        if any(self._hooks) or any(map(contains, self._own, repeat("forward"))):
            return False
        if torch.is_grad_enabled() and any(parameter.requires_grad for parameter in self._parameters):
            return False
        return not any(module.training for module in self._read)
