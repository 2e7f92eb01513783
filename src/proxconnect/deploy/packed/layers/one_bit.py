"""Layers of 1-bit weights: computed with torch, or by the kernels if they can."""

import os
import warnings
from functools import cache
from math import prod
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd

from proxconnect import kernels
from proxconnect.deploy.packed.file.metadata import LayerSpec
from proxconnect.deploy.packed.layers.base import CompactLayer, for_kernels, version_of
from proxconnect.gpu import operators  # noqa: F401  # which registers kernels for GPUs
from proxconnect.gpu.availability import runs_on
from proxconnect.kernels.bits import pack_bits, pad_is_zero, unpack_bits
from proxconnect.kernels.library import NOT_BUILT, ON_TORCH, advice
from proxconnect.layers import Accumulator
from proxconnect.layers.products import RowProduct
from proxconnect.layers.react import Shift
from proxconnect.pairs.prox import sign

WORTH_TABLES = (32, 128)
"""The outputs of a group and the entries of a patch from which kernels beat torch in convolutions of floats."""

WORTH_PIXELS = 16
"""The same entries if a patch is one pixel, because none is gathered."""

WORTH_UNPACKING = 300_000
"""The multiply-adds of one group, counted as for stride 1, below which kernels also beat torch on smaller weights."""

Inputs = Literal["exact", "int8"]
"""The precision of float inputs in kernels: as they are, or rounded to 8 bits by the row or image, which is faster."""

IS_SUPPORTED = os.name == "posix"
"""True if the kernels can be built on this system."""


class PackedLayer(CompactLayer):
    """Mixin over a torch layer whose weight is `scale`·±1; `pack` and `load` make such layers.

    `bits` holds the signs of the n weights as `pack_bits` lays them out: uint8 of shape (⌈n/8⌉,).
    """

    binary_type: ClassVar[type[Any]]
    """The class of the binary layers that this class is the packed form of."""
    held = "bits"
    own_state = ("bits", "scale", "input_shift")

    bits: Tensor
    input_shift: Shift | None
    """The learned shift of a binary input, added before its signs are taken."""

    @property
    def accumulator(self) -> Accumulator | None:  # type: ignore[override]  # read-only here
        """The limited accumulator that the binary layer has for its sums, or None."""
        return self._spec.accumulator

    def forward(self, input: Tensor, *args: Any) -> Tensor:
        """Compute the binary layer's output with hard weights, as exactly as `proxconnect.pack` says."""
        return self.of_shifted(input if self.input_shift is None else self.input_shift(input), *args)

    def of_shifted(self, input: Tensor, *args: Any) -> Tensor:
        """Run the layer on an input to which `input_shift` is already added; arguments as for `forward`."""
        return self.product(self.prepare_input(input), *self.weight_factors(), self.bias, *args)

    def weight_factors(self) -> tuple[Tensor, Tensor | None]:
        """Return the weight and the scale that multiplies the sums: for float inputs, the scaled weight and None.

        For binary inputs they are the weight's signs ±1 and `scale`, or None for a layer without a scale.
        """
        if not self.scales_sums:
            return self.weight, None
        return self._numbers(), None if self._spec.scale is None else self.scale

    scales_sums = sums_integers = CompactLayer.has_binary_input

    def prepare_input(self, input: Tensor) -> Tensor:
        """Return the signs of a binary input, ±1 or NaN, or another input itself.

        TypeError for a binary input that is no float tensor.
        """
        if not self._spec.binary_input:
            return input
        if not isinstance(input, Tensor) or not input.is_floating_point():
            got = input.dtype if isinstance(input, Tensor) else type(input).__name__
            raise TypeError(f"a packed layer with binary input takes the signs of a float tensor; got {got}")
        return sign(input, 1.0)

    def extra_repr(self) -> str:
        """Return the text that `repr` shows: the float layer's options, the scale, a binary input, the accumulator."""
        shown = [super().extra_repr(), f"packed, scale={self._spec.scale}"]
        shown += [] if self.group_size is None else [f"group_size={self.group_size}"]
        shown += ["binary input"] * self._spec.binary_input
        shown += [] if self.accumulator is None else [f"accumulator={self.accumulator}"]
        return ", ".join(filter(None, shown))

    def fault(self) -> str:
        """Return in words what is wrong with the loaded `scale` or `bits`, or "" if nothing is."""
        pads = pad_is_zero(self.bits, self._spec.entries)
        return super().fault() if pads else "the bits after the last weight are not 0"

    def _specify(self, spec: LayerSpec) -> None:
        super()._specify(spec)
        self.input_shift = None
        if spec.input_shift:
            channels = self.input_channels(spec.shape)
            self.input_shift = Shift(channels, self.output_axis, device="meta", dtype=spec.dtype)

    def _numbers(self) -> Tensor:
        return unpack_bits(self.bits, self._spec.shape, self.scale.dtype)


class KernelLayer(PackedLayer):
    """Mixin over a packed layer that runs with the kernels if `is_by_kernels` is True, and else with torch.

    On a GPU these are those of `proxconnect.gpu`. They have no rounded inputs, so `inputs` has no effect there.
    """

    inputs: Inputs = "exact"

    def of_shifted(self, input: Tensor, *args: Any) -> Tensor:
        """Run the layer on an input to which `input_shift` is already added, with the kernels if `is_by_kernels`."""
        if not self.is_by_kernels(input, self.bias):
            return super().of_shifted(input, *args)
        return self.by_kernels(for_kernels(input)).to(input.dtype)

    def is_by_kernels(self, input: Tensor, bias: Tensor | None) -> bool:
        """Return True if the kernels compute this input: they can, and no autocast applies to a float input."""
        if not self.kernels_can(input, bias):
            return False
        return self._spec.binary_input or not torch.is_autocast_enabled(input.device.type)

    def by_kernels(self, input: Tensor) -> Tensor:
        """Compute the layer's output with the kernels, for an input from `for_kernels` that is already shifted."""
        raise NotImplementedError

    def linear(self, input: Tensor, prepacked: Tensor, rows: int, scale: Tensor | None, bias: Tensor | None) -> Tensor:
        """Multiply an input (…, in), already shifted, to (…, rows) with the kernels.

        `prepacked` is the prepacked weight, or its part for some rows. `scale` and `bias` are those of these rows, or
        None. These and the input are from `for_kernels`. ValueError if the last dimension of the input is not `in`.
        """
        columns = self.input_channels(self._spec.shape)
        if input.shape[-1:] != (columns,):  # the prepacked weight knows it only up to the next multiple of 64
            raise ValueError(f"input must be (…, {columns}); got {tuple(input.shape)}")
        if self._spec.binary_input:
            return kernels.binary_linear(input, prepacked, rows, scale, bias, self.accumulator)
        is_rounded = self.inputs == "int8" and input.is_cpu
        multiply = kernels.dynamic_int8_linear if is_rounded else kernels.weight_only_linear
        return multiply(input, prepacked, rows, scale, bias)

    def _has_kernels(self, device: torch.device) -> bool:
        return super()._has_kernels(device) or runs_on(device)


class KernelLinear(KernelLayer, RowProduct):
    """Mixin over a packed linear layer that runs with the kernels if they can: weight (out, in), or transposed."""

    _laid_out: tuple[Tensor, int, Tensor] | None = None
    """The scale of groups that was last laid out for kernels, its version then, and the result."""

    def by_kernels(self, input: Tensor) -> Tensor:
        """Multiply an input (…, in), from `for_kernels` and already shifted, to (…, out) with the kernels."""
        assert self.prepacked is not None
        out = self.output_channels(self._spec.shape)
        return self.linear(input, self.prepacked, out, self.kernel_scale(), self.kernel_bias())

    def kernel_scale(self) -> Tensor | None:
        """Return the scale for the kernels, laid out by `group_scales` if the layer has groups."""
        if self.group_size is None:
            return super().kernel_scale()
        before, version = self._laid_out, None if torch.compiler.is_compiling() else version_of(self.scale)
        if before is not None and before[0] is self.scale and before[1] == version:
            return before[2]
        made = kernels.group_scales(self.scale[0] if self.input_dim == 1 else self.scale[0].T)
        if version is not None:
            self._laid_out = self.scale, version, made
        return made

    def _prepacked(self) -> Tensor | None:
        if self.group_size is not None and self.group_size % kernels.WORD:
            return None
        rows, columns = self._spec.shape
        if self.input_dim == 1:
            return kernels.panels(self.bits, rows, columns)
        transposed = unpack_bits(self.bits, (rows, columns), torch.int8).T
        return kernels.panels(pack_bits(transposed), columns, rows)


class KernelConv(KernelLayer, _ConvNd):
    """Mixin over a packed 1-d or 2-d convolution that uses the kernels if they can and, for floats, are faster."""

    padding_value: int

    def is_by_kernels(self, input: Tensor, bias: Tensor | None) -> bool:
        """Return True if the kernels compute this input; for a float input on a CPU, only if they should beat torch."""
        if not super().is_by_kernels(input, bias):
            return False
        if self._spec.binary_input or self.is_worth_tables() or not input.is_cpu:
            return True
        pixels = input.numel() // self._spec.shape[1]  # one group, since more have no prepacked weight
        return pixels * self._spec.entries < WORTH_UNPACKING

    def by_kernels(self, input: Tensor) -> Tensor:
        """Convolve an input (N, in, *size), or without N, to (N, out, *size_out) in its layout; from `for_kernels`."""
        dims, pad = len(self.kernel_size), self._reversed_padding_repeated_twice
        has_planes = input.is_contiguous() or input.dim() <= dims or input.stride(-1 - dims) != 1  # torch's own test
        if self.padding_mode != "zeros":  # padding the input or its signs gives the same
            input = functional.pad(input, pad, mode=self.padding_mode)
        batch = input if input.dim() > dims + 1 else input[None]
        image = batch if dims == 2 else batch.unsqueeze(2)
        assert self.prepacked is not None
        geometry, scale, bias = self.geometry(), self.kernel_scale(), self.kernel_bias()
        if self._spec.binary_input:
            output = kernels.binary_conv2d(
                image, self.prepacked, *geometry, self.padding_value, scale, bias, self.accumulator
            )
        else:
            convolve = kernels.weight_only_conv2d
            if image.is_cpu:
                image = image.contiguous(memory_format=torch.channels_last)  # a patch has the fewest pieces there
                convolve = kernels.dynamic_int8_conv2d if self.inputs == "int8" else convolve
            output = convolve(image, self.prepacked, *geometry, scale, bias)
        output = output if dims == 2 else output.squeeze(2)
        output = output if batch is input else output[0]
        return output.contiguous() if has_planes else output

    def _prepacked(self) -> Tensor | None:
        pad = self._reversed_padding_repeated_twice
        is_even = pad[::2] == pad[1::2]  # "same" may pad more at the end
        if not is_even and self.padding_mode == "zeros":
            return None
        if self.groups > 1 and not self.bits.is_cpu:  # kernels for GPUs have one group
            return None
        if self._spec.binary_input:
            return kernels.conv_panels(self.bits, self._kernel_shape(), self.groups)
        if self.groups > 1 and not self.is_worth_tables():
            return None
        return kernels.patch_panels(self.bits, self._kernel_shape(), self.groups)

    def is_worth_tables(self) -> bool:
        """Return True if a group has so many outputs and entries that kernels beat torch on float inputs."""
        outputs, entries = self._spec.shape[0] // self.groups, prod(self._spec.shape[1:])
        return outputs >= WORTH_TABLES[0] and entries >= (
            WORTH_TABLES[1] if prod(self.kernel_size) > 1 else WORTH_PIXELS
        )

    def geometry(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
        """Return weight shape, stride, padding, dilation and groups for the kernels.

        The shape is (out, in/groups, height, width), and the next three are (height, width); a convolution of one
        dimension becomes one of height 1. The padding is (0, 0) if `padding_mode` is not "zeros": pad the input first.
        """
        padding = tuple(self._reversed_padding_repeated_twice[::-2]) if self.padding_mode == "zeros" else (0, 0)
        return self._kernel_shape(), _two(self.stride, 1), _two(padding, 0), _two(self.dilation, 1), self.groups

    def _kernel_shape(self) -> tuple[int, ...]:
        return (*self._spec.shape[:2], *_two(self._spec.shape[2:], 1))


def _two(values: tuple[int, ...], missing: int) -> tuple[int, ...]:
    """Return the values of height and width; a line has height 1."""
    return values if len(values) == 2 else (missing, *values)


def set_inputs(model: nn.Module, inputs: Inputs) -> None:
    """Set `inputs`, "exact" or "int8", of every `KernelLayer` in a model; ValueError for other values."""
    if inputs not in get_args(Inputs):
        raise ValueError(f"inputs must be 'exact' or 'int8'; got {inputs!r}")
    for layer in model.modules():
        if isinstance(layer, KernelLayer):
            layer.inputs = inputs


@cache  # one warning is enough
def warn_unless_built() -> None:
    """Warn once per process that packed models run on torch alone, if the kernels could be built here but are not."""
    if IS_SUPPORTED and not kernels.is_built():
        warnings.warn(f"{NOT_BUILT}: {ON_TORCH}. {advice()}.", stacklevel=4)
