"""Fused operations of binary layers and their epilogue steps, and GELUs that overwrite their outputs."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.nn import functional

from proxconnect.deploy.fusion.operation import Match, Operation, Rewriting, has_kernels
from proxconnect.deploy.fusion.steps import EpilogueStep, for_kernels
from proxconnect.deploy.packed.layers.one_bit import KernelConv, KernelLayer, KernelLinear
from proxconnect.kernels.accumulator import Accumulator
from proxconnect.kernels.epilogue import Bits
from proxconnect.kernels.fused_conv import FusedConv2d
from proxconnect.kernels.fused_linear import FusedFloatLinear, FusedLinear
from proxconnect.kernels.steps import Signs, Step
from proxconnect.layers.react import Shift

ORDER = 2.0**-17
"""The largest absolute error of a float sum Σ x·w from a different order of additions, as a share of Σ |x·w|."""

STEPS, BITS = "steps (norms, activations, additions)", "of them output bits"
"""The names under which reports count the epilogue steps, and the operations whose outputs are bits."""


class BinaryProduct(Operation):
    """The fused operation of a packed binary layer, the `Shift` before it if any, and the epilogue steps after it.

    Call it with floats before the shift, or with `Bits` after it, and with the addends of its steps. `then` is a tuple
    of the kernel's steps, for outputs of floats, or `Signs`, the sums that the steps make ≥ 0, for outputs of `Bits`.
    """

    name = "binary layers"
    is_binary = True
    layer: KernelLayer

    def __init__(
        self, layer: KernelLayer, steps: Sequence[EpilogueStep], then: tuple[Step, ...] | Signs, shift: Shift | None
    ) -> None:
        super().__init__(_kernel(layer, then, shift), steps, are_images=isinstance(layer, KernelConv))
        self.layer, self.shift, self.gives_bits = layer, shift, isinstance(then, Signs)
        self.sums_integers = layer.has_binary_input
        self._inputs = None if layer.has_binary_input else layer.inputs
        is_padded = isinstance(layer, KernelConv) and layer.padding_mode != "zeros"
        self._border: Any = (layer._reversed_padding_repeated_twice, layer.padding_mode) if is_padded else None

    @classmethod
    def match(cls, work: Rewriting, node: Node) -> Match | None:
        """Return the match of a packed binary layer, with the `Shift` and steps around it; None for other nodes."""
        layer = product_of(work, node)
        if layer is None:
            return None
        value: Any = node.args[0]
        shift = work.module_of(value)
        shift = shift if isinstance(shift, Shift) and _can_shift(layer, shift) else None
        are_images = isinstance(layer, KernelConv)
        steps = work.chain(node, _channels_of(layer), are_images=are_images)
        then: Any = None
        last = steps[-1].node if steps else node
        readers = [work.module_of(user) for user in last.users]
        if readers and all(_takes_bits(m) and isinstance(m, KernelConv) == are_images for m in readers):
            then = output_bits(layer, steps)
        if then is None:
            steps, then = for_kernels(steps, _channels_of(layer))
        nodes = [node, *(step.node for step in steps)]
        read = [layer] if shift is None else [layer, shift]
        return Match(cls(layer, steps, then, shift), nodes, (value if shift is None else value.args[0],), read)

    def kernel_input(self, input: Tensor | Bits) -> Tensor | Bits | None:
        """Return `Bits` as they are, or floats, padded unless `padding_mode` is "zeros"; None if unsupported."""
        if isinstance(input, Bits):
            return input if self._dims in (None, input.words.dim()) else None
        is_as_before = self._inputs is None or self.layer.inputs == self._inputs
        if not is_as_before or input.dtype is not torch.float32 or self._dims not in (None, input.dim()):
            return None
        return input if self._border is None else functional.pad(input, *self._border)

    def sums(self, input: Tensor | Bits) -> Tensor:
        """Return the layer's own float output, before the steps; float inputs are shifted first, `Bits` are not."""
        if isinstance(input, Bits):
            shifted = input.floats().movedim(-1, 1) if self.are_images else input.floats()
        else:
            shifted = input if self.shift is None else self.shift(input)
        return self.layer.of_shifted(shifted)

    def counts(self) -> dict[str, int]:
        """Return, by name, 1 for the layer, the number of its steps, and 1 if its output is bits, else 0."""
        return {self.name: 1, STEPS: len(self.steps), BITS: int(self.gives_bits)}

    def rounding(self, input: Tensor, sums: Tensor) -> Tensor:
        """Return a bound on the absolute rounding error of each sum: a share of |sum| for integers, else of Σ |x·w|."""
        if self.sums_integers:
            return super().rounding(input, sums)
        scale = self.layer.scale.abs()
        if self.layer.group_size is not None:
            scale = scale[0].amax(self.layer.spec.input_dim)  # the dimension of groups
        return input.abs().sum(-1, keepdim=True) * scale.reshape(-1) * ORDER


def product_of(work: Rewriting, node: Node) -> KernelLayer | None:
    """Return the packed binary layer that a node calls, if a fused kernel supports the layer; None otherwise."""
    return layer if _can_fuse(layer := work.module_of(node)) else None


def output_bits(layer: KernelLayer, steps: Sequence[EpilogueStep]) -> Signs | None:
    """Return the integer sums of a layer that its scale, bias and then the steps map to values ≥ 0.

    None for float inputs, for steps that add another value, and if `signs_of` returns None.
    """
    if not layer.has_binary_input or any(step.other is not None for step in steps):
        return None
    channels, axis = _channels_of(layer), 1 if isinstance(layer, KernelConv) else -1
    functions, output = [step.apply for step in steps], (layer.kernel_scale(), layer.kernel_bias())
    with torch.no_grad():
        return signs_of(functions, channels, layer.spec.entries // channels, *output, layer.accumulator, axis)


class OverwritingGelu(Operation):
    """The fused operation of an `nn.GELU` that overwrites its input, so that the caches hold one tensor, not two."""

    has_channels = False

    def __init__(self, gelu: nn.GELU) -> None:
        super().__init__(partial(torch.ops.aten.gelu_.default, approximate=gelu.approximate), (), are_images=False)
        self.layer = gelu

    @classmethod
    def match(cls, work: Rewriting, node: Node) -> Match | None:
        """Return the match of a GELU that is the only user of the output of a `BinaryProduct`; None for other nodes."""
        gelu, value = work.module_of(node), node.args[0] if node.args else None
        if type(gelu) is not nn.GELU or not isinstance(value, Node) or len(value.users) > 1:
            return None
        return Match(cls(gelu), [node], (value,), [gelu]) if isinstance(value.target, BinaryProduct) else None


def _can_fuse(layer: nn.Module | None) -> TypeGuard[KernelLayer]:
    if isinstance(layer, KernelConv) and not (layer.has_binary_input and len(layer.kernel_size) == 2):
        return False
    return isinstance(layer, KernelConv | KernelLinear) and has_kernels(layer)


def _takes_bits(layer: nn.Module | None) -> bool:
    """Return True if the kernel of a layer accepts bits; it cannot pad them by a `padding_mode` other than zeros."""
    return _can_fuse(layer) and layer.has_binary_input and getattr(layer, "padding_mode", "zeros") == "zeros"


def _can_shift(layer: KernelLayer, shift: Shift) -> bool:
    """Return True if the kernel of a layer can add this shift to its float input; only those of convolutions can."""
    is_plain = shift.shift.dtype is torch.float32 and shift.shift.is_cpu
    is_of_images = shift.dim in (1, -3) and isinstance(layer, KernelConv) and layer.has_binary_input
    return is_plain and is_of_images and shift.channels == layer.input_channels(layer.spec.shape)


def _channels_of(layer: KernelLayer) -> int:
    return layer.output_channels(layer.spec.shape)


def _kernel(layer: KernelLayer, then: tuple[Step, ...] | Signs, shift: Shift | None) -> Any:
    assert layer.prepacked is not None
    output = layer.kernel_scale(), layer.kernel_bias()
    if isinstance(layer, KernelConv):
        geometry, added = (*layer.geometry(), layer.padding_value), None if shift is None else shift.shift
        return FusedConv2d(layer.prepacked, *geometry, *output, layer.accumulator, then, input_shift=added)
    weight = layer.prepacked, layer.input_channels(layer.spec.shape), _channels_of(layer)
    if not layer.has_binary_input:
        assert not isinstance(then, Signs)
        return FusedFloatLinear(*weight, *output, then, layer.inputs == "int8")
    return FusedLinear(*weight, *output, layer.accumulator, then)


_MOST_INTERVALS = 8
"""The most intervals of a channel; with more, floats are faster."""

_AT_ONCE = 1 << 16
"""The number of function values that are in memory at a time."""


def signs_of(
    functions: Sequence[Callable[..., Tensor]], channels: int, entries: int, scale: Tensor | None, bias: Tensor | None,
    accumulator: Accumulator | None, axis: int,
) -> Signs | None:  # fmt: skip
    """Return the intervals of integer sums that the functions, applied one after another, map to values ≥ 0.

    The functions run on each integer from -`entries` to `entries` that the accumulator can hold, times `scale`, plus
    `bias`, for each of the `channels`. Channels are in dimension `axis` of their inputs: 1 for images, or -1. None if a
    value is NaN, if a channel has too many intervals, or if the accumulator is cyclic.
    """
    if accumulator is not None and accumulator.overflow == "cyclic":  # its values are no integers
        return None
    low, high = -entries, entries
    if accumulator is not None:
        low, high = max(low, -accumulator.bound), min(high, accumulator.bound - 1)
    changes: list[Tensor] = []
    first = last = torch.empty(0)
    step = max(_AT_ONCE // channels, 1)
    for start in range(low, high + 1, step):
        sums = torch.arange(start, min(start + step, high + 1), dtype=torch.float32)
        values = sums[:, None].expand(-1, channels)
        values = values.clone() if scale is None else values * scale.reshape(1, -1)
        values = values if bias is None else values + bias
        values = values if axis == -1 else values[:, :, None, None]
        for function in functions:
            values = function(values)
        if bool(values.isnan().any()):
            return None
        bits = values.reshape(-1, channels) >= 0
        if not changes:
            first = last = bits[0]
        changes.append((bits != torch.cat([last[None], bits[:-1]])).nonzero() + torch.tensor([start, 0]))
        last = bits[-1]
    return _between(torch.cat(changes), first, high + 1)


def _between(changes: Tensor, first: Tensor, end: int) -> Signs | None:
    """Return the intervals between changes of sign, (sum, channel) in order, up to `end`; None if too many."""
    sums, channels = changes[changes[:, 1].argsort(stable=True)].unbind(1)
    counts = channels.bincount(minlength=len(first))
    most = max(-(-int(counts.max()) // 2), 1)
    if most > _MOST_INTERVALS:
        return None
    places = torch.arange(len(sums)) - (counts.cumsum(0) - counts)[channels]
    bounds = torch.full((2 * most, len(first)), end, dtype=torch.int32)  # an interval from `end` to `end` is empty
    bounds[places, channels] = sums.to(torch.int32)
    return Signs(bounds[::2].contiguous(), bounds[1::2] - bounds[::2], first)
