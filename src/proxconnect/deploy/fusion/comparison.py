"""Layers of two models side by side, on the inputs that one of them gives."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from proxconnect._support.example import tensors_in
from proxconnect.deploy.fusion.closeness import ROUNDING, gap
from proxconnect.deploy.packed import PackedLayer
from proxconnect.deploy.packed.half_vectors import TOLERANCE
from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.deploy.packed.layers.int8 import Int8Layer, error
from proxconnect.deploy.packed.layers.one_bit import KernelLayer
from proxconnect.layers import BinaryLayer

_HALF = 2.0**-9
"""What scales and biases in 16 bits may change at most of the largest entry of an output."""


class ProofError(RuntimeError):
    """A packed model does not answer as the hard binary model does; the message says where."""


@dataclass
class Comparison:
    """The gaps between packed layers and what they are made of, by name: the largest |Δ| by the largest entry."""

    has_halves: bool
    """Whether scales and biases were rounded to 16 bits."""
    signs: dict[str, float] = field(default_factory=dict)
    """Of layers with binary inputs."""
    floats: dict[str, float] = field(default_factory=dict)
    """Of layers with float inputs."""
    rounded: dict[str, float] = field(default_factory=dict)
    """Of float layers in 8 bits."""
    fault: str = ""
    """What is wrong with the first layer that differs by more than its rounding."""

    @contextmanager
    def watching(self, name: str, right: nn.Module, mine: nn.Module) -> Iterator[None]:
        """While this lasts, compare `mine` with `right` on every input of `right`."""
        if not isinstance(mine, Int8Layer) and not isinstance(right, BinaryLayer):
            yield
            return
        compare: Any = self._compare_rounded if isinstance(mine, Int8Layer) else self._compare_packed
        handle = right.register_forward_hook(lambda *call: compare(name, mine, *call), with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def _compare_packed(self, name: str, mine: Any, _: nn.Module, args: Any, kwargs: Any, expected: Any) -> None:
        assert isinstance(mine, PackedLayer)
        if not args and not kwargs:  # a raw parameter, which has no product of its own
            return
        found = gap(expected, mine(*args, **kwargs))
        allowed = _HALF if self.has_halves else 0.0 if mine.has_binary_input else ROUNDING
        if isinstance(mine, KernelLayer) and not mine.has_binary_input and mine.inputs == "int8":
            allowed += _bound(mine, args or tuple(kwargs.values()), expected)
        if not found <= allowed:
            self.fault = self.fault or f"layer {name!r} and its binary one are {found:.1e} of the largest entry apart"
        gaps = self.signs if mine.has_binary_input else self.floats
        gaps[name] = max(found, gaps.get(name, 0.0))

    def _compare_rounded(self, name: str, mine: Any, right: Any, args: Any, kwargs: Any, expected: Any) -> None:
        input = args[0] if args else next(iter(kwargs.values()))
        if not bool(expected.any()) or not bool(expected.isfinite().all()):
            return
        found, bound = error(mine, right, input)
        if found > bound + _HALF:
            off = f"off by {found:.1e} of the largest entry, not within {bound:.1e}"
            self.fault = self.fault or f"layer {name!r} in 8 bits is {off}"
        self.rounded[name] = max(found, self.rounded.get(name, 0.0))


def _bound(layer: KernelLayer, inputs: tuple[Any, ...], expected: Any) -> float:
    """Return how far an output may be off, by the largest, if the input is rounded to 8 bits, as `pack` states it."""
    most_input, most_output = (max(float(t.abs().max()) for t in tensors_in(v)) for v in (inputs, expected))
    entries = layer.spec.entries // layer.spec.shape[layer.channel_dims[0]]
    return float(layer.scale.abs().max()) * entries * most_input / 254 / most_output if most_output else float("inf")


def remainder_fault(model: nn.Module, packed: nn.Module, *, has_halves: bool) -> str:
    """Return what of a packed model holds other numbers than the model, packed layers aside; empty if nothing does.

    Buffers that are in no state dict are left out: a forward may make them anew.
    """
    for name, module in packed.named_modules():
        if isinstance(module, CompactLayer):
            continue
        right = model.get_submodule(name)
        for key, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            twin = right._parameters.get(key, right._buffers.get(key))
            if key in module._non_persistent_buffers_set or twin is None:
                continue
            if not gap(twin, tensor) <= (TOLERANCE if has_halves else 0.0):
                return f"{key} of {name or 'the model'} is not what it is in the model that was packed"
    return ""
