"""Packed layers that the kernels compute, where they take the input; torch computes the rest."""

import os
import warnings
from functools import cache
from math import prod
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from proxconnect import kernels
from proxconnect.deploy.packed.layers import PackedLayer
from proxconnect.deploy.packed.panels import PanelLayer
from proxconnect.kernels.absence import ADVICE, NOT_BUILT, ON_TORCH
from proxconnect.kernels.bits import pack_bits, unpack_bits

WORTH_TABLES = (32, 128)
"""The outputs of a group, and the entries of a patch, below which a convolution of floats is faster by torch, which has
few weights to unpack there."""

WORTH_UNPACKING = 300_000
"""The multiply-adds, stride aside, below which the kernels are faster even then: on so small an image unpacking takes
longer than the product. It holds for one group."""

Inputs = Literal["exact", "int8"]
"""How kernels multiply float inputs: as they are, or each row rounded to 8 bits by its own step, which is faster."""

IS_SUPPORTED = os.name == "posix"
"""Whether the kernels can be built on this system at all."""


class KernelLayer(PanelLayer, PackedLayer):
    """Mixin over a packed layer whose product the kernels compute where they can."""

    inputs: Inputs = "exact"

    def of_shifted(self, input: Tensor, *args: Any) -> Tensor:
        """What `forward` answers to an input to which what is learned was added before, by kernels where they can."""
        if not self.is_by_kernels(input, self.bias):
            return super().of_shifted(input, *args)
        return self.by_kernels(input.float()).to(input.dtype)

    def is_by_kernels(self, input: Tensor, bias: Tensor | None) -> bool:
        """Whether the kernels compute the product with this input."""
        if not self._spec.binary_input and torch.is_autocast_enabled("cpu"):
            return False
        return self.kernels_can(input, bias)

    def by_kernels(self, input: Tensor) -> Tensor:
        """The product with a float32 input."""
        raise NotImplementedError

    def linear(self, input: Tensor, panels: Tensor, rows: int, scale: Tensor | None, bias: Tensor | None) -> Tensor:
        """(…, in) → (…, rows): the product with rows of the weight; ValueError for another size than `in`."""
        columns = self._spec.shape[1 - self.channel_dims[0]]
        if input.shape[-1:] != (columns,):  # the panels tell it only to the next multiple of 64
            raise ValueError(f"input must be (…, {columns}); got {tuple(input.shape)}")
        if self._spec.binary_input:
            return kernels.binary_linear(input, panels, rows, scale, bias, self.accumulator)
        multiply = kernels.dynamic_int8_linear if self.inputs == "int8" else kernels.weight_only_linear
        return multiply(input, panels, rows, scale, bias)


class KernelLinear(KernelLayer):
    """One of (out, in), or the transposed one of (in, out)."""

    def by_kernels(self, input: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        assert self.panels is not None
        out = self._spec.shape[self.channel_dims[0]]
        return self.linear(input, self.panels, out, self.kernel_scale(), self.kernel_bias())

    def _panels(self) -> Tensor | None:
        rows, columns = self._spec.shape
        if self.channel_dims == (0,):
            return kernels.panels(self.bits, rows, columns)
        transposed = unpack_bits(self.bits, (rows, columns), torch.int8).T
        return kernels.panels(pack_bits(transposed), columns, rows)


class KernelProjection(KernelLayer):
    """An in-projection of attention: blocks of rows of one weight, each with an input of its own."""

    def are_by_kernels(self, inputs: tuple[Tensor, ...], bias: Tensor | None) -> bool:
        """Whether the kernels compute the products with these inputs, whose panels they must not share."""
        is_whole = self._spec.shape[0] // len(inputs) % kernels.PANEL == 0 or len(inputs) == 1
        return is_whole and all(self.is_by_kernels(input, bias) for input in inputs)

    def project_by_kernels(self, inputs: tuple[Tensor, ...], bias: Tensor | None) -> tuple[Tensor, ...]:
        """(…, in) → (…, out/n) for each of the n inputs."""
        assert self.panels is not None
        blocks, scale = len(inputs), self.kernel_scale()
        scales = (scale,) * blocks if scale is None or scale.numel() == 1 else scale.chunk(blocks)
        biases = (None,) * blocks if bias is None else bias.float().chunk(blocks)
        rows = self._spec.shape[0] // blocks
        return tuple(
            self.linear(x.float(), block, rows, s, b).to(x.dtype)
            for x, block, s, b in zip(inputs, self.panels.chunk(blocks), scales, biases, strict=True)
        )

    def _panels(self) -> Tensor | None:
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
        """As of every layer, and whether they are faster where the input is float."""
        if not super().is_by_kernels(input, bias):
            return False
        if self._spec.binary_input or self._is_worth_tables():
            return True
        pixels = input.numel() // self._spec.shape[1]  # there is one group, or no panels
        return pixels * self._spec.entries < WORTH_UNPACKING

    def by_kernels(self, input: Tensor) -> Tensor:
        """(N, in, *size) → (N, out, *size_out), with or without N, in the memory format of the input."""
        dims, pad = len(self.kernel_size), self._reversed_padding_repeated_twice
        has_planes = input.is_contiguous() or input.dim() <= dims or input.stride(-1 - dims) != 1  # as torch has it
        if self.padding_mode != "zeros":  # of the input, or of its signs: they are the same
            input = functional.pad(input, pad, mode=self.padding_mode)
        batch = input if input.dim() > dims + 1 else input[None]
        image = batch if dims == 2 else batch.unsqueeze(2)
        output = self._convolve(image)
        output = output if dims == 2 else output.squeeze(2)
        output = output if batch is input else output[0]
        return output.contiguous() if has_planes else output

    def _panels(self) -> Tensor | None:
        pad = self._reversed_padding_repeated_twice
        is_even = pad[::2] == pad[1::2]  # "same" may be larger behind
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
        """The weight's shape, stride, padding, dilation, all of height and width, and groups, as the kernels take them.

        The padding is none where the input is padded before, by another mode than zeros.
        """
        padding = tuple(self._reversed_padding_repeated_twice[::-2]) if self.padding_mode == "zeros" else (0, 0)
        return self._kernel_shape(), _two(self.stride, 1), _two(padding, 0), _two(self.dilation, 1), self.groups

    def _convolve(self, image: Tensor) -> Tensor:
        assert self.panels is not None
        geometry = self.geometry()
        scale, bias = self.kernel_scale(), self.kernel_bias()
        if self._spec.binary_input:
            return kernels.binary_conv2d(
                image, self.panels, *geometry, self.padding_value, scale, bias, self.accumulator
            )
        image = image.contiguous(memory_format=torch.channels_last)  # where patches are few pieces
        convolve = kernels.dynamic_int8_conv2d if self.inputs == "int8" else kernels.weight_only_conv2d
        return convolve(image, self.panels, *geometry, scale, bias)

    def _kernel_shape(self) -> tuple[int, ...]:
        return (*self._spec.shape[:2], *_two(self._spec.shape[2:], 1))


def _two(values: tuple[int, ...], missing: int) -> tuple[int, ...]:
    """The values of height and width; a line has height 1."""
    return values if len(values) == 2 else (missing, *values)


def let_inputs_be(model: nn.Module, inputs: Inputs) -> None:
    """Have the kernels multiply the float inputs of all packed layers so; ValueError unless it is one of `Inputs`."""
    if inputs not in get_args(Inputs):
        raise ValueError(f"inputs must be 'exact' or 'int8'; got {inputs!r}")
    for layer in model.modules():
        if isinstance(layer, KernelLayer):
            layer.inputs = inputs


@cache  # once is enough
def warn_unless_built() -> None:
    """Warn that packed models run on torch alone if the kernels were not built, on systems that could have them."""
    if IS_SUPPORTED and not kernels.is_built():
        warnings.warn(f"{NOT_BUILT}: {ON_TORCH}. {ADVICE}.", stacklevel=4)
