"""The operators of torch: six products, one specification each, by the C functions of their names.

`torch.compile` and `torch.export` take them as they are.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.library import Library

from proxconnect.kernels.arguments import (
    CPU,
    as_rows,
    columns_of,
    contiguous,
    output_of,
    require_float32,
    require_weight,
)
from proxconnect.kernels.convolution import convolution, memory_format, out_size
from proxconnect.kernels.entries import INT8, ROUNDED, SIGNS, require_entries
from proxconnect.kernels.library import loaded
from proxconnect.kernels.prepacked import conv_panels_shape, int8_panels_shape, panels_shape

_LIBRARY = Library("proxconnect", "DEF")
_CONV = "int[4] weight_shape, int[2] stride, int[2] padding, int[2] dilation"

# The memory format of the output is that of the input, so that a compiler must not choose another for it.
_KEEPS_STRIDES = getattr(torch.Tag, "needs_exact_strides", torch.Tag.needs_fixed_stride_order)


@dataclass(frozen=True)
class Operator:
    """What an operator takes between the prepacked weight and the scale, and what it may take."""

    weight: str
    """What the schema says of the weight and of how it moves over the input."""
    shape: Callable[[tuple[int, ...], tuple[int, ...], int], tuple[int, ...]]
    """The shape of a prepacked weight, by the weight's, the dilation and the groups."""
    most: int | None
    """The most entries of a sum."""
    dtype: torch.dtype = torch.int64
    """Of the prepacked weight."""
    has_accumulator: bool = False
    keeps_format: bool = False
    """Whether images are read in either memory format, which the output has too; else it has its channels last."""

    @property
    def arguments(self) -> str:
        """The schema behind the name."""
        overflow = "int overflow, int bits, float slope, " if self.has_accumulator else ""
        rest = f"Tensor? scale, Tensor? bias, {overflow}str? instruction_set"
        return f"(Tensor input, Tensor panels, {self.weight}, {rest}) -> Tensor"

    @property
    def moves(self) -> int:
        """How many numbers a convolution takes behind the dilation."""
        return self.weight.count(", int ")


@lru_cache(maxsize=4096)
def _signs_shape(weight: tuple[int, ...], _: tuple[int, ...], groups: int) -> tuple[int, ...]:
    return panels_shape(weight[0] // groups, prod(weight[1:]), groups)


_BY_NAME = {
    "binary_linear": Operator("int out_features", _signs_shape, SIGNS, has_accumulator=True),
    "weight_only_linear": Operator("int out_features", _signs_shape, None),
    "dynamic_int8_linear": Operator("int out_features", _signs_shape, ROUNDED),
    "int8_linear": Operator("int out_features", lambda weight, *_: int8_panels_shape(weight), INT8, torch.int8),
    "binary_conv2d": Operator(
        f"{_CONV}, int groups, int padding_value", lambda weight, _, groups: conv_panels_shape(weight, groups), SIGNS,
        has_accumulator=True, keeps_format=True,
    ),
    "weight_only_conv2d": Operator(f"{_CONV}, int groups", _signs_shape, None),
    "dynamic_int8_conv2d": Operator(f"{_CONV}, int groups", _signs_shape, ROUNDED),
    "int8_conv2d": Operator(
        _CONV, lambda weight, dilation, _: int8_panels_shape(weight, dilation), INT8, torch.int8, keeps_format=True
    ),
}  # fmt: skip


def _linear(name: str, operator: Operator) -> Callable[..., Tensor]:
    function, most, dtype, shape_of = f"px_{name}", operator.most, operator.dtype, operator.shape

    def multiply(
        input: Tensor, panels: Tensor, out_features: int, scale: Tensor | None, bias: Tensor | None, *rest: Any
    ) -> Tensor:
        *overflow, instruction_set = rest
        columns = columns_of(input)
        require_entries(columns, most)
        require_float32("input", input)
        require_weight(panels, shape_of((out_features, columns), (1, 1), 1), out_features, scale, bias, dtype)
        kernels, number = loaded(instruction_set)
        rows, scale, bias = as_rows(input), contiguous(scale), contiguous(bias)
        output = input.new_empty((*input.shape[:-1], out_features))
        getattr(kernels, function)(
            number, rows.data_ptr(), rows.shape[0], columns, rows.stride(0), panels.data_ptr(), out_features,
            ctypes.byref(output_of(scale, bias, *overflow)), output.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return output

    return multiply


def _fake_linear(input: Tensor, _: Tensor, out_features: int, *rest: Any) -> Tensor:
    return input.new_empty(*input.shape[:-1], out_features)


def _conv(name: str, operator: Operator) -> Callable[..., Tensor]:
    function, most, dtype, shape_of = f"px_{name}", operator.most, operator.dtype, operator.shape
    keeps, moves = operator.keeps_format, operator.moves
    missing: tuple[Any, ...] = (1, 0)[moves:]  # one group, nothing beyond the border

    def convolve(
        input: Tensor, panels: Tensor, weight_shape: list[int], stride: list[int], padding: list[int],
        dilation: list[int], *rest: Any,
    ) -> Tensor:  # fmt: skip
        groups, padding_value = *rest[:moves], *missing
        scale, bias, *overflow, instruction_set = rest[moves:]
        weight, dilated = tuple(weight_shape), tuple(dilation)
        planned = convolution(
            tuple(input.shape), input.stride(), weight, tuple(stride), tuple(padding), dilated, groups, padding_value,
            has_planes=keeps and input.is_contiguous(), reads_rows_apart=keeps,
        )  # fmt: skip
        require_entries(prod(weight[1:]), most)
        require_float32("input", input)
        require_weight(panels, shape_of(weight, dilated, groups), weight[0], scale, bias, dtype)
        kernels, number = loaded(instruction_set)
        image = input.contiguous() if planned.is_copied else input
        output = torch.empty(planned.output, dtype=torch.float32, device=CPU, memory_format=planned.memory_format)
        if planned.is_empty:
            return output
        scale, bias = contiguous(scale), contiguous(bias)
        getattr(kernels, function)(
            number, image.data_ptr(), planned.geometry, panels.data_ptr(),
            ctypes.byref(output_of(scale, bias, *overflow)), output.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return output

    return convolve


def _fake_conv(operator: Operator) -> Callable[..., Tensor]:
    def fake(
        input: Tensor, panels: Tensor, weight_shape: list[int], stride: list[int], padding: list[int],
        dilation: list[int], *rest: Any,
    ) -> Tensor:  # fmt: skip
        size = out_size(input.shape, weight_shape[2:], stride, padding, dilation)
        kept = memory_format(operator.keeps_format and input.is_contiguous())
        shape = (input.shape[0], weight_shape[0], *size)
        return torch.empty(shape, dtype=input.dtype, device=input.device, memory_format=kept)

    return fake


def _registered(name: str, operator: Operator) -> Callable[..., Tensor]:
    """Register an operator, and look it up once, which takes longer than the call."""
    is_linear = operator.weight == "int out_features"
    _LIBRARY.define(f"{name}{operator.arguments}", tags=(_KEEPS_STRIDES,) if operator.keeps_format else ())
    _LIBRARY.impl(name, (_linear if is_linear else _conv)(name, operator), "CPU")
    fake = _fake_linear if is_linear else _fake_conv(operator)
    torch.library.register_fake(f"proxconnect::{name}", fake, lib=_LIBRARY)
    found: Callable[..., Tensor] = getattr(torch.ops.proxconnect, name).default
    return found


OPERATORS = {name: _registered(name, operator) for name, operator in _BY_NAME.items()}
"""`torch.ops.proxconnect`, by name."""
