"""Detect changes of the tensors, modules and Python values from which a fused graph was made."""

import ctypes
from collections.abc import Iterable
from itertools import chain, repeat
from operator import attrgetter, contains, getitem, is_
from typing import Any
from zlib import crc32

import torch
from torch import Tensor, fx, nn
from torch.utils.hooks import RemovableHandle

from proxconnect.deploy.fusion.reach import Place, Reach
from proxconnect.deploy.packed.layers.base import CompactLayer

_SMALL = 1 << 14
"""The most bytes of a tensor whose values are compared before each run."""

_UNREAD = ("prepacked", "num_batches_tracked")
"""The buffers whose values graphs do not depend on. Prepacked weights are made from `bits`."""

_COPIED = (int, float, str, tuple)
_NOT_COPIED = ("training", "momentum", "num_features", "affine", "track_running_stats", "inplace",
               "elementwise_affine", "p")  # fmt: skip
"""The attributes of torch's layers on which no output in `eval()` depends."""

_NUMBERS = (bool, int, float, complex, str)

_version = attrgetter("_version")
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class Sources:
    """A snapshot of the tensors, modules and values from which a fused graph was made, to tell if it may still run.

    `graph` is the traced graph of the module `root`, `read` are the modules whose values were copied into it, and
    `reach` has the values that its code may have read. Checks run before every run of the graph, so most are loops in C
    over lists that were made once. No version shows the writes of batch norms in training, of fused optimizers, in
    `inference_mode` and through `.data`. So small float tensors are compared by their bytes, and others by versions,
    and large float ones by checksums too if `require_comparison` was called.
    """

    def __init__(self, root: nn.Module, graph: fx.Graph, read: Iterable[nn.Module], reach: Reach | None = None) -> None:
        modules, copied = [*root.modules()], [*dict.fromkeys(read)]
        tensors: list[Tensor | None] = [tensor for m in copied for tensor in m._parameters.values()]
        tensors += [tensor for m in copied for name, tensor in m._buffers.items() if name not in _UNREAD]
        self._places: list[Place] = []
        for owner_name, _, name in (str(n.target).rpartition(".") for n in graph.nodes if n.op == "get_attr"):
            owner = root.get_submodule(owner_name)
            holders = owner._parameters, owner._buffers, vars(owner)
            self._places.append((next(held for held in holders if name in held), name))
        self._places += [(vars(m), name) for m in copied for name in _numbers_of(m)]
        sized: list[Any] = [m._modules for m in modules if m._modules or isinstance(m, _CONTAINERS)]
        held = [*sized, *(held for m in copied for held in (m._parameters, m._buffers) if held)]
        self._iterables: list[Any] = [dictionary.values() for dictionary in held]
        self._attributes: list[tuple[Any, str]] = []
        if reach is not None:
            self._places += reach.entries()
            tensors += reach.tensors
            containers = [container for container, _, _ in reach.containers]
            for held in containers:
                self._iterables += [dict.keys(held), dict.values(held)] if isinstance(held, dict) else [held]
            sized += containers
            self._attributes = [place[:2] for place in reach.attributes.values()]
        self._watch_tensors({id(t): t for t in tensors if t is not None}.values())
        self._watch_values(sized)
        self._parameters = list(root.parameters())
        self._hooks = [hooks for m in modules[1:] for hooks in (m._forward_hooks, m._forward_pre_hooks)]
        self._last_handle: int | None = None  # of the hooks that torch had made when there were none here
        self._own = [vars(m) for m in modules[1:] if "forward" not in vars(m)]
        """The attributes of inner modules, which contain `forward` after it was replaced."""
        self._modes = [vars(m) for m in modules if m is root or _may_read_mode(m)]
        touched = [*self._tensors, *self._views, *self._registries, *sized, *self._held, *self._own, *self._modes]
        self._touched = tuple({id(value): value for value in touched}.values())

    def _watch_tensors(self, tensors: Iterable[Tensor]) -> None:
        self._tensors = [*tensors]
        plain = [tensor for tensor in self._tensors if tensor.is_floating_point() and _has_plain_bytes(tensor)]
        small = [tensor for tensor in plain if tensor.nbytes <= _SMALL]
        self._storages = [tensor.untyped_storage() for tensor in small]  # so that their memory is not freed
        self._addresses = [*map(Tensor.data_ptr, self._tensors)]
        self._views = [*map(_bytes_of, small)]
        self._bytes = b"".join(self._views)
        compared = {*map(id, small)}
        self._counted = [t for t in self._tensors if id(t) not in compared and not t.is_inference()]
        self._versions = [*map(_version, self._counted)]
        self._large = [tensor for tensor in plain if id(tensor) not in compared]
        self._checksums = [*map(crc32, map(_bytes_of, self._large))]
        self._must_compare = False

    def require_comparison(self) -> None:
        """Let the next call of `have_changed` compare large tensors too, which training may have changed."""
        self._must_compare = True

    def have_changed(self) -> bool:
        """Return True if a tensor, module or value of the snapshot, such as `eps`, is found to have changed since."""
        list(self._touched)  # loads what the network displaced from the caches, many objects at a time
        if [*map(Tensor.data_ptr, self._tensors)] != self._addresses:  # as by `tensor.data = ...`
            return True
        if b"".join(self._views) != self._bytes or [*map(_version, self._counted)] != self._versions:
            return True
        if self._must_compare:
            if [*map(crc32, map(_bytes_of, self._large))] != self._checksums:
                return True
            self._must_compare = False
        return [*map(len, self._sized)] != self._counts or self._hold_others()

    def _watch_values(self, sized: list[Any]) -> None:
        self._sized, self._counts = sized, [*map(len, sized)]
        places = {(id(held), key): (held, key) for held, key in self._places}.values()
        self._registries, self._names = [held for held, _ in places], [key for _, key in places]
        self._owners, self._own_names = [owner for owner, _ in self._attributes], [name for _, name in self._attributes]
        self._held = self._held_now()

    def _held_now(self) -> list[Any]:
        """Return the modules, tensors and values that may be replaced."""
        held = map(dict.get, self._registries, self._names)
        attributes = map(getattr, self._owners, self._own_names, repeat(None))
        return [*held, *attributes, *chain.from_iterable(self._iterables)]

    def _hold_others(self) -> bool:
        """Return True if a module or a value was replaced, unless by an equal number."""
        now = self._held_now()
        if len(now) != len(self._held):
            return True
        if all(map(is_, now, self._held)):
            return False
        for new, old in zip(now, self._held, strict=True):
            if new is not old and (type(new) is not type(old) or not isinstance(new, _NUMBERS) or new != old):
                return True
        self._held = now
        return False

    def is_in_training(self) -> bool:
        """Return True if the root, or a module that may read its mode, is in training, or gradients are needed now."""
        if any(map(getitem, self._modes, repeat("training"))):
            return True
        return torch.is_grad_enabled() and any(parameter.requires_grad for parameter in self._parameters)

    def are_hooked(self) -> bool:
        """Return True if an inner module has a forward (pre-)hook, or its forward was replaced since the snapshot."""
        if self._last_handle != RemovableHandle.next_id:
            self._last_handle = None if any(self._hooks) else RemovableHandle.next_id
        return self._last_handle is None or any(map(contains, self._own, repeat("forward")))


def _numbers_of(module: nn.Module) -> list[str]:
    """Return the names of the attributes that operations copy, such as `eps` of a norm and `stride` of a pool."""
    if isinstance(module, CompactLayer):  # whose other numbers are its shape
        return [name for name in ("stride", "dilation", "padding_value") if name in vars(module)]
    return [name for name, value in vars(module).items() if isinstance(value, _COPIED) and name not in _NOT_COPIED]


def _may_read_mode(module: nn.Module) -> bool:
    """Return False for layers of torch, and packed ones, that compute the same in training."""
    forward = type(module).forward
    if isinstance(module, CompactLayer) or forward.__module__.startswith("torch.nn.modules"):
        return "training" in forward.__code__.co_names
    return True


def _has_plain_bytes(tensor: Tensor) -> bool:
    """Return True if all bytes of a tensor lie one after another in main memory."""
    if not tensor.is_cpu or tensor.layout is not torch.strided or not tensor.nbytes:
        return False
    is_image = tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return tensor.is_contiguous() or is_image


def _bytes_of(tensor: Tensor) -> memoryview:
    """Return a view of the memory of a tensor, which must outlive it."""
    return memoryview((ctypes.c_char * tensor.nbytes).from_address(tensor.data_ptr()))
