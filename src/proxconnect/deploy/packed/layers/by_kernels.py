"""Layers of 1-bit weights that the kernels compute if they can; torch computes the rest."""

import os
import warnings
from functools import cache
from math import prod
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from proxconnect import kernels
from proxconnect.deploy.packed.layers.one_bit import PackedLayer
from proxconnect.kernels.bits import pack_bits, unpack_bits
from proxconnect.kernels.library import ADVICE, NOT_BUILT, ON_TORCH

WORTH_TABLES = (32, 128)
"""The outputs of a group and the entries of a patch from which kernels are worth it for convolutions of floats.

Below them torch is faster, because it has few weights to unpack.
"""

WORTH_UNPACKING = 300_000
"""The multiply-adds, with the stride ignored, below which the kernels are faster even then.

On so small an image unpacking takes longer than the product. The number holds for one group.
"""

Inputs = Literal["exact", "int8"]
"""The precision of float inputs in kernels: as they are, or rounded to 8 bits row by row, which is faster."""

IS_SUPPORTED = os.name == "posix"
"""True if the kernels can be built on this system."""


class KernelLayer(PackedLayer):
    """Mixin over a packed layer whose product the kernels compute if they can."""

    inputs: Inputs = "exact"

    def of_shifted(self, input: Tensor, *args: Any) -> Tensor:
        """Run the layer on an input that is already shifted, with kernels if they can compute it."""
        if not self.is_by_kernels(input, self.bias):
            return super().of_shifted(input, *args)
        return self.by_kernels(input.float()).to(input.dtype)

    def is_by_kernels(self, input: Tensor, bias: Tensor | None) -> bool:
        """Return True if the kernels compute the product with this input."""
        if not self._spec.binary_input and torch.is_autocast_enabled("cpu"):
            return False
        return self.kernels_can(input, bias)

    def by_kernels(self, input: Tensor) -> Tensor:
        """Compute the product with a float32 input."""
        raise NotImplementedError

    def linear(self, input: Tensor, prepacked: Tensor, rows: int, scale: Tensor | None, bias: Tensor | None) -> Tensor:
        """(…, in) → (…, rows): multiply by prepacked rows of the weight; ValueError for a size other than `in`."""
        columns = self._spec.shape[1 - self.channel_dims[0]]
        if input.shape[-1:] != (columns,):  # the prepacked weight knows it only up to the next multiple of 64
            raise ValueError(f"input must be (…, {columns}); got {tuple(input.shape)}")
        if self._spec.binary_input:
            return kernels.binary_linear(input, prepacked, rows, scale, bias, self.accumulator)
        multiply = kernels.dynamic_int8_linear if self.inputs == "int8" else kernels.weight_only_linear
        return multiply(input, prepacked, rows, scale, bias)


class KernelLinear(KernelLayer):
    """A linear layer with a weight (out, in), or transposed with (in, out)."""

    def by_kernels(self, input: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        assert self.prepacked is not None
        out = self._spec.shape[self.channel_dims[0]]
        return self.linear(input, self.prepacked, out, self.kernel_scale(), self.kernel_bias())

    def _prepacked(self) -> Tensor | None:
        rows, columns = self._spec.shape
        if self.channel_dims == (0,):
            return kernels.panels(self.bits, rows, columns)
        transposed = unpack_bits(self.bits, (rows, columns), torch.int8).T
        return kernels.panels(pack_bits(transposed), columns, rows)


class KernelProjection(KernelLayer):
    """An in-projection of attention: each block of rows of the weight has its own input."""

    def are_by_kernels(self, inputs: tuple[Tensor, ...], bias: Tensor | None) -> bool:
        """Return True if the kernels compute the products with these inputs; no panel may span two blocks."""
        is_whole = self._spec.shape[0] // len(inputs) % kernels.PANEL == 0 or len(inputs) == 1
        return is_whole and all(self.is_by_kernels(input, bias) for input in inputs)

    def project_by_kernels(self, inputs: tuple[Tensor, ...], bias: Tensor | None) -> tuple[Tensor, ...]:
        """(…, in) → (…, out/n) for each of the n inputs."""
        assert self.prepacked is not None
        blocks, scale = len(inputs), self.kernel_scale()
        scales = (scale,) * blocks if scale is None or scale.numel() == 1 else scale.chunk(blocks)
        biases = (None,) * blocks if bias is None else bias.float().chunk(blocks)
        rows = self._spec.shape[0] // blocks
        return tuple(
            self.linear(x.float(), block, rows, s, b).to(x.dtype)
            for x, block, s, b in zip(inputs, self.prepacked.chunk(blocks), scales, biases, strict=True)
        )

    def _prepacked(self) -> Tensor | None:
        return kernels.panels(self.bits, *self._spec.shape)


class KernelConv(KernelLayer):
    """A convolution of one or two dimensions."""

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    padding_mode: Any
    padding_value: int
    _reversed_padding_repeated_twice: list[int]

    def is_by_kernels(self, input: Tensor, bias: Tensor | None) -> bool:
        """Return True if the kernels compute the product; for a float input, only if they are faster."""
        if not super().is_by_kernels(input, bias):
            return False
        if self._spec.binary_input or self._is_worth_tables():
            return True
        pixels = input.numel() // self._spec.shape[1]  # one group, since more have no prepacked weight
        return pixels * self._spec.entries < WORTH_UNPACKING

    def by_kernels(self, input: Tensor) -> Tensor:
        """(N, in, *size) → (N, out, *size_out), with or without N, in the memory format of the input."""
        dims, pad = len(self.kernel_size), self._reversed_padding_repeated_twice
        has_planes = input.is_contiguous() or input.dim() <= dims or input.stride(-1 - dims) != 1  # torch's own test
        if self.padding_mode != "zeros":  # padding the input or its signs gives the same
            input = functional.pad(input, pad, mode=self.padding_mode)
        batch = input if input.dim() > dims + 1 else input[None]
        image = batch if dims == 2 else batch.unsqueeze(2)
        output = self._convolve(image)
        output = output if dims == 2 else output.squeeze(2)
        output = output if batch is input else output[0]
        return output.contiguous() if has_planes else output

    def _prepacked(self) -> Tensor | None:
        pad = self._reversed_padding_repeated_twice
        is_even = pad[::2] == pad[1::2]  # "same" may pad more at the end
        if not is_even and self.padding_mode == "zeros":
            return None
        if self._spec.binary_input:
            return kernels.conv_panels(self.bits, self._kernel_shape(), self.groups)
        if self.groups > 1 and not self._is_worth_tables():
            return None
        return kernels.patch_panels(self.bits, self._kernel_shape(), self.groups)

    def _is_worth_tables(self) -> bool:
        outputs, entries = self._spec.shape[0] // self.groups, prod(self._spec.shape[1:])
        return outputs >= WORTH_TABLES[0] and entries >= WORTH_TABLES[1]

    def geometry(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
        """Return the weight's shape, stride, padding, dilation, each for height and width, and groups, for the kernels.

        The padding is 0 if the padding mode is not "zeros", because such an input is padded first.
        """
        padding = tuple(self._reversed_padding_repeated_twice[::-2]) if self.padding_mode == "zeros" else (0, 0)
        return self._kernel_shape(), _two(self.stride, 1), _two(padding, 0), _two(self.dilation, 1), self.groups

    def _convolve(self, image: Tensor) -> Tensor:
        assert self.prepacked is not None
        geometry = self.geometry()
        scale, bias = self.kernel_scale(), self.kernel_bias()
        if self._spec.binary_input:
            return kernels.binary_conv2d(
                image, self.prepacked, *geometry, self.padding_value, scale, bias, self.accumulator
            )
        image = image.contiguous(memory_format=torch.channels_last)  # a patch has the fewest pieces there
        convolve = kernels.dynamic_int8_conv2d if self.inputs == "int8" else kernels.weight_only_conv2d
        return convolve(image, self.prepacked, *geometry, scale, bias)

    def _kernel_shape(self) -> tuple[int, ...]:
        return (*self._spec.shape[:2], *_two(self._spec.shape[2:], 1))


def _two(values: tuple[int, ...], missing: int) -> tuple[int, ...]:
    """Return the values of height and width; a line has height 1."""
    return values if len(values) == 2 else (missing, *values)


def set_inputs(model: nn.Module, inputs: Inputs) -> None:
    """Set the precision of the float inputs of all packed layers; ValueError unless it is one of `Inputs`."""
    if inputs not in get_args(Inputs):
        raise ValueError(f"inputs must be 'exact' or 'int8'; got {inputs!r}")
    for layer in model.modules():
        if isinstance(layer, KernelLayer):
            layer.inputs = inputs


@cache  # one warning is enough
def warn_unless_built() -> None:
    """Warn that packed models run on torch alone, if the kernels are not built but could be on this system."""
    if IS_SUPPORTED and not kernels.is_built():
        warnings.warn(f"{NOT_BUILT}: {ON_TORCH}. {ADVICE}.", stacklevel=4)
