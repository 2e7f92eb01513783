"""Compare the layers of a packed model with those of the hard binary model, on equal inputs."""

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
from proxconnect.deploy.packed.layers.by_kernels import KernelLayer
from proxconnect.deploy.packed.layers.int8 import Int8Layer, error
from proxconnect.layers import BinaryLayer

_HALF = 2.0**-9
"""The largest error from scales and biases in 16 bits, relative to the largest entry of an output."""


class ProofError(RuntimeError):
    """The error for a packed model whose outputs differ from the hard binary model's; the message says where."""


@dataclass
class Comparison:
    """The largest error of each packed layer by name, relative to the largest entry of the original's output."""

    has_halves: bool
    """True if scales and biases were rounded to 16 bits."""
    signs: dict[str, float] = field(default_factory=dict)
    """The errors of binary layers with binary inputs."""
    floats: dict[str, float] = field(default_factory=dict)
    """The errors of binary layers with float inputs."""
    rounded: dict[str, float] = field(default_factory=dict)
    """The errors of 8-bit layers."""
    fault: str = ""
    """The message about the first layer whose error exceeds rounding; empty if there is none."""

    @contextmanager
    def watching(self, name: str, right: nn.Module, mine: nn.Module) -> Iterator[None]:
        """In this context, run the packed layer `mine` on every input of the original layer `right`, and compare."""
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
            # As `pack` states the bound of inputs in 8 bits, relative to the largest output.
            sizes = (args or tuple(kwargs.values()), expected)
            most_input, most_output = (max(float(t.abs().max()) for t in tensors_in(v)) for v in sizes)
            entries = mine.spec.entries // mine.spec.shape[mine.channel_dims[0]]
            bound = float(mine.scale.abs().max()) * entries * most_input / 254
            allowed += bound / most_output if most_output else float("inf")
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


def remainder_fault(model: nn.Module, packed: nn.Module, *, has_halves: bool) -> str:
    """Return a message about a parameter or buffer of another value than in `model`, or "" if all are equal.

    Packed layers are not compared, and neither are buffers outside the state dict, which a forward may make anew.
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
