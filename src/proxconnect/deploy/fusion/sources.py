"""What a fused graph was made of, to see whether it has changed since."""

from collections.abc import Iterable, Mapping
from itertools import repeat
from operator import attrgetter, contains, getitem, is_
from typing import Any

import torch
from torch import Tensor, fx, nn

from proxconnect.deploy.packed.layers.base import CompactLayer

_Place = tuple[dict[str, Any], str]
"""A registry of a module, and a name in it."""

_UNREAD = ("prepacked", "num_batches_tracked")
"""The buffers that no graph is made of: prepacked weights follow bits."""

_version = attrgetter("_version")
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class Sources:
    """The tensors whose numbers went into a graph, the modules that it calls, and the hooks that it would not call.

    Its questions are asked before every run, so that each is one loop in C over lists that were made once.
    """

    def __init__(self, root: nn.Module, graph: fx.Graph, read: Iterable[nn.Module]) -> None:
        self._read = [root, *read]
        places: list[_Place] = [(m._parameters, n) for m in self._read[1:] for n in m._parameters]
        places += [(m._buffers, n) for m in self._read[1:] for n in m._buffers if n not in _UNREAD]
        places += [_place_of(root, str(node.target)) for node in graph.nodes if node.op == "get_attr"]
        places += [(vars(m), n) for m in root.modules() for n, value in vars(m).items() if isinstance(value, Tensor)]
        places += [(vars(m), n) for m in self._read[1:] for n in _numbers_of(m)]
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
        self._hooks = [hooks for m in inner_modules for hooks in _hooks_of(m)]
        self._own = [vars(m) for m in inner_modules if "forward" not in vars(m)]
        """What holds another forward from the moment that a module is given one."""

    def have_changed(self) -> bool:
        """Whether a tensor was written into or replaced, or a module was added or replaced."""
        if self._versions_now() != self._versions or [*map(len, self._modules)] != self._counts:
            return True
        return not all(map(is_, map(dict.get, self._registries, self._names), self._held))

    def _versions_now(self) -> tuple[list[int], list[int]]:
        """What counts writes in place, and where entries lie, which `tensor.data = ...` changes."""
        return [*map(_version, self._counted)], [*map(Tensor.data_ptr, self._tensors)]

    def are_watched(self) -> bool:
        """Whether an inner module has a hook, or was given another forward."""
        return any(self._hooks) or any(map(contains, self._own, repeat("forward")))

    def need_gradients(self) -> bool:
        """Whether what the module answers has a gradient with respect to one of its parameters."""
        return torch.is_grad_enabled() and any(parameter.requires_grad for parameter in self._parameters)

    def are_evaluating(self) -> bool:
        """Whether the module and those whose numbers were folded are in evaluation."""
        return not any(module.training for module in self._read)


def _place_of(root: nn.Module, name: str) -> _Place:
    """Where a module holds the tensor of that qualified name."""
    owner_name, _, name = name.rpartition(".")
    owner = root.get_submodule(owner_name)
    registries: tuple[dict[str, Any], ...] = (owner._parameters, owner._buffers, vars(owner))
    return next(registry for registry in registries if name in registry), name


def _numbers_of(module: nn.Module) -> list[str]:
    """The attributes of a module that are numbers, as eps of a norm; those of a packed layer are its shape."""
    if isinstance(module, CompactLayer):
        return []
    is_read = {name: type(value) in (int, float) for name, value in vars(module).items()}
    return [name for name in is_read if is_read[name] and name not in ("momentum", "num_features")]


def _hooks_of(module: nn.Module) -> tuple[Mapping[int, Any], ...]:
    return module._forward_hooks, module._forward_pre_hooks
