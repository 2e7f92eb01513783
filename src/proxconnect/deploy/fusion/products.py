"""Products with signs and all that follows them in one pass, or layer by layer for inputs that the kernels leave."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from proxconnect.deploy.fusion.adding import finished
from proxconnect.deploy.fusion.intervals import signs_of
from proxconnect.deploy.fusion.links import Link, run
from proxconnect.deploy.packed.layers.by_kernels import KernelConv, KernelLayer, KernelLinear
from proxconnect.kernels.epilogue import Bits, Signs, Step
from proxconnect.kernels.fused_conv import FusedConv2d
from proxconnect.kernels.fused_float_linear import FusedFloatLinear
from proxconnect.kernels.fused_linear import FusedLinear
from proxconnect.layers.react import Shift

ORDER = 2.0**-17
"""By how much of the sum of all |x·w| a sum of floats may change with its order."""


def can_fuse(layer: nn.Module) -> bool:
    """Whether kernels multiply by the signs of this layer, in float32, and can finish the sums in one pass."""
    if not isinstance(layer, KernelConv | KernelLinear):
        return False
    if not layer.has_binary_input and not isinstance(layer, KernelLinear):
        return False
    layer.prepack_if_changed()
    if layer.prepacked is None:
        return False
    dtypes = {layer.scale.dtype, torch.float32 if layer.bias is None else layer.bias.dtype}
    return dtypes == {torch.float32} and (isinstance(layer, KernelLinear) or len(layer.kernel_size) == 2)


def takes_bits(layer: nn.Module) -> bool:
    """Whether it also takes its input as bits: signs, which only a border of its own can pad."""
    if not isinstance(layer, KernelLayer) or not can_fuse(layer) or not layer.has_binary_input:
        return False
    return not isinstance(layer, KernelConv) or layer.padding_mode == "zeros"


def output_bits(layer: KernelLayer, links: Sequence[Link]) -> Signs | None:
    """The signs of what the links make of each integer sum of the layer; None where they are no intervals.

    None too where sums are of floats, or a link adds a tensor.
    """
    if not layer.has_binary_input or any(link.other is not None for link in links):
        return None
    entries = layer.spec.entries // channels_of(layer)
    functions = [link.apply for link in links]
    axis = 1 if isinstance(layer, KernelConv) else -1
    scale, bias = layer.kernel_scale(), layer.kernel_bias()
    with torch.no_grad():
        return signs_of(functions, channels_of(layer), entries, scale, bias, layer.accumulator, axis)


def channels_of(layer: KernelLayer) -> int:
    """The output channels."""
    return layer.spec.shape[layer.channel_dims[0]]


class FusedProduct:
    """A binary layer, a shift of floats that it reads, if any, and its links.

    Called with what it takes signs of, bits after the shift, and with what the links add, in their order.
    """

    def __init__(
        self, layer: KernelLayer, links: Sequence[Link], then: tuple[Step, ...] | Signs, shift: Shift | None = None
    ) -> None:
        self.layer, self.links, self.shift = layer, tuple(links), shift
        self.has_channels = any(link.dim == 1 for link in links)
        self.kernel: Callable[..., Any] = _kernel(layer, then, shift)

    def __call__(self, input: Tensor | Bits, *others: Tensor) -> Tensor | Bits:
        """Floats, or bits where it was made with `Signs`."""
        raise NotImplementedError

    def by_layers(self, input: Tensor | Bits, others: Sequence[Tensor]) -> Tensor:
        """The same by the layer itself and torch, as floats."""
        return run(self.links, self.layer.of_shifted(self._shifted(input)), others)

    def _shifted(self, input: Tensor | Bits) -> Tensor:
        if isinstance(input, Bits):
            return self.floats(input)
        return input if self.shift is None else self.shift(input)

    def floats(self, bits: Bits) -> Tensor:
        """An input of signs as the layer takes it."""
        return bits.floats()


class FusedConv(FusedProduct):
    """A convolution of images in the memory format channels_last."""

    layer: KernelConv

    def __call__(self, input: Tensor | Bits, *others: Tensor) -> Tensor | Bits:
        """(N, in, H, W) → (N, out, H', W')."""
        image = input
        if isinstance(input, Tensor):
            if input.dtype is not torch.float32 or input.dim() != 4:
                return self.by_layers(input, others)
            if self.layer.padding_mode != "zeros":
                pad = self.layer._reversed_padding_repeated_twice
                input = functional.pad(input, pad, mode=self.layer.padding_mode)
        output: Tensor | Bits | None = finished(self.kernel, input, others, torch.channels_last)
        return self.by_layers(image, others) if output is None else output

    def floats(self, bits: Bits) -> Tensor:
        """An input of signs as the layer takes it."""
        return bits.floats().movedim(-1, 1)


class FusedRows(FusedProduct):
    """A linear layer, of rows that may be images where no link asks for channels in another dimension."""

    def __call__(self, input: Tensor | Bits, *others: Tensor) -> Tensor | Bits:
        """(…, in) → (…, out)."""
        rows = input if isinstance(input, Tensor) else input.words
        if (rows is input and rows.dtype is not torch.float32) or (self.has_channels and rows.dim() != 2):
            return self.by_layers(input, others)
        output: Tensor | Bits | None = finished(self.kernel, input, others, torch.contiguous_format)
        return self.by_layers(input, others) if output is None else output


class FusedFloatRows(FusedProduct):
    """A linear layer of float rows, exact or rounded as the layer was when this was made."""

    def __init__(self, layer: KernelLayer, links: Sequence[Link], then: tuple[Step, ...] | Signs) -> None:
        super().__init__(layer, links, then)
        self.inputs = layer.inputs

    def __call__(self, input: Tensor | Bits, *others: Tensor) -> Tensor | Bits:
        """(…, in) → (…, out)."""
        assert isinstance(input, Tensor)
        is_other = self.layer.inputs != self.inputs or input.dtype is not torch.float32
        if is_other or (self.has_channels and input.dim() != 2):
            return self.by_layers(input, others)
        output: Tensor | None = finished(self.kernel, input, others, torch.contiguous_format)
        return self.by_layers(input, others) if output is None else output

    def rounding(self, input: Tensor) -> Tensor:
        """By how much the sums of an input may change with their order, of both signs."""
        return input.abs().sum(-1, keepdim=True) * self.layer.scale.abs().reshape(-1) * ORDER


def can_shift(layer: KernelLayer, shift: Shift) -> bool:
    """Whether a shift of images can run in the pass of a layer that reads them."""
    is_plain = shift.shift.dtype is torch.float32 and shift.shift.is_cpu
    is_of_images = shift.dim in (1, -3) and isinstance(layer, KernelConv) and layer.has_binary_input
    return is_plain and is_of_images and shift.channels == layer.input_channels(layer.spec.shape)


def fused(
    layer: KernelLayer, links: Sequence[Link], then: tuple[Step, ...] | Signs, shift: Shift | None
) -> FusedProduct:
    """A layer with what follows it, and the shift before it."""
    rows = FusedRows if layer.has_binary_input else FusedFloatRows
    return FusedConv(layer, links, then, shift) if isinstance(layer, KernelConv) else rows(layer, links, then)


def _kernel(layer: KernelLayer, then: tuple[Step, ...] | Signs, shift: Shift | None) -> Any:
    assert layer.prepacked is not None
    columns = layer.spec.shape[1 - layer.channel_dims[0]]
    if not layer.has_binary_input:
        assert not isinstance(then, Signs)
        of_weight = layer.prepacked, columns, channels_of(layer), layer.kernel_scale(), layer.kernel_bias()
        return FusedFloatLinear(*of_weight, then, layer.inputs == "int8")
    output = layer.kernel_scale(), layer.kernel_bias(), layer.accumulator
    if isinstance(layer, KernelConv):
        added = None if shift is None else shift.shift
        return FusedConv2d(layer.prepacked, *layer.geometry(), layer.padding_value, *output, then, input_shift=added)
    return FusedLinear(layer.prepacked, columns, channels_of(layer), *output, then)
