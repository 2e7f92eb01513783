"""Register eight products as operators of torch, which `torch.compile` and `torch.export` support.

Each operator has one line of `_SPECIFICATION`, and calls a C function without epilogue steps.
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
    INT8,
    ROUNDED,
    SIGNS,
    OutputFields,
    as_rows,
    contiguous,
    is_of_groups,
    overflow_of,
    require_entries,
    require_float32,
    require_weight,
    scale_and_bias,
)
from proxconnect.kernels.geometry import How, convolution, out_size
from proxconnect.kernels.library import CFused, CGeometry, COutput, loaded
from proxconnect.kernels.prepacked import conv_panels_shape, int8_panels_shape, panels_shape

_LIBRARY = Library("proxconnect", "DEF")
_CONV = "int[4] weight_shape, int[2] stride, int[2] padding, int[2] dilation"

# The memory format of the output is that of the input, so that a compiler must not choose another for it.
_KEEPS_STRIDES = getattr(torch.Tag, "needs_exact_strides", torch.Tag.needs_fixed_stride_order)


@dataclass(frozen=True, eq=False)
class Operator:
    """A product of an input and a prepacked weight: its schema, its checks, and its call of the C function."""

    name: str
    function: str
    """The C function."""
    weight: str
    """The part of the schema about the weight's sizes and, for convolutions, stride, padding, dilation and groups."""
    most: int | None
    """The largest number of products in a sum; None for no bound."""
    dtype: torch.dtype = torch.int64
    """The dtype of the prepacked weight."""
    has_accumulator: bool = False
    keeps_format: bool = False
    """True if the output has the memory format of the input; otherwise it is channels_last."""
    rounds: tuple[int, ...] = ()
    """The argument of the C function that selects exact (0) or rounded (1) inputs; () if it has none."""

    @property
    def takes_groups(self) -> bool:
        """True if the scale may be that of `group_scales`."""
        return self.function == "px_weight_only_linear"

    def registered(self) -> Callable[..., Tensor]:
        """Register the operator as `torch.ops.proxconnect.NAME`, and return its function, which is slow to look up."""
        overflow = "int overflow, int bits, float slope, " if self.has_accumulator else ""
        rest = f"Tensor? scale, Tensor? bias, {overflow}str? instruction_set"
        schema = f"{self.name}(Tensor input, Tensor panels, {self.weight}, {rest}) -> Tensor"
        _LIBRARY.define(schema, tags=(_KEEPS_STRIDES,) if self.keeps_format else ())
        is_conv = self.weight.startswith(_CONV)
        _LIBRARY.impl(self.name, self._convolve if is_conv else self._multiply, "CPU")
        fake = (
            self._fake_conv if is_conv else lambda input, _, outputs, *rest: input.new_empty(*input.shape[:-1], outputs)
        )
        torch.library.register_fake(f"proxconnect::{self.name}", fake, lib=_LIBRARY)
        found: Callable[..., Tensor] = getattr(torch.ops.proxconnect, self.name).default
        return found

    def _multiply(
        self, input: Tensor, panels: Tensor, out_features: int, scale: Tensor | None, bias: Tensor | None, *rest: Any
    ) -> Tensor:
        size = input.shape
        columns = size[-1] if size else 0
        shape = _checked_shape(self, out_features, columns)
        require_float32("input", input)
        require_weight(panels, shape, out_features, scale, bias, self.dtype, columns if self.takes_groups else None)
        grouped = columns if self.takes_groups and is_of_groups(scale, out_features) else 0
        kernels, number = loaded(rest[-1])
        rows, scale, bias = as_rows(input), contiguous(scale), contiguous(bias)
        output = input.new_empty((*size[:-1], out_features))
        words, nan = ((None, None), (None,)) if self.has_accumulator else ((), ())
        getattr(kernels, self.function)(
            number, *self.rounds, rows.data_ptr(), *words, rows.shape[0], columns, rows.stride(0), panels.data_ptr(),
            out_features, _unfused(rest[:-1], scale_and_bias(scale, bias, grouped)), None, *nan, output.data_ptr(),
            torch.get_num_threads(),
        )  # fmt: skip
        return output

    def _convolve(
        self, input: Tensor, panels: Tensor, weight_shape: list[int], stride: list[int], padding: list[int],
        dilation: list[int], *rest: Any,
    ) -> Tensor:  # fmt: skip
        count = self.weight.count(", int ")  # of groups and padding value, which are 1 and 0 if the schema lacks them
        scale, bias, weight = rest[count], rest[count + 1], tuple(weight_shape)
        how: Any = (weight, tuple(stride), tuple(padding), tuple(dilation), *rest[:count], *(1, 0)[count:])
        has_planes = self.keeps_format and input.is_contiguous()
        geometry, made, is_copied, shape = _planned(self, tuple(input.shape), input.stride(), how, has_planes)
        require_float32("input", input)
        require_weight(panels, shape, weight[0], scale, bias, self.dtype)
        kernels, number = loaded(rest[-1])
        image = input.contiguous() if is_copied else input
        kept = torch.contiguous_format if has_planes else torch.channels_last
        output = torch.empty(made, dtype=torch.float32, device=CPU, memory_format=kept)
        if 0 in made:
            return output
        scale, bias = contiguous(scale), contiguous(bias)
        before = (None, None) if self.has_accumulator else (None,)  # words and NaN map, or average pool
        getattr(kernels, self.function)(
            number, *self.rounds, image.data_ptr(), *before, geometry, panels.data_ptr(),
            _unfused(rest[count + 2 : -1], scale_and_bias(scale, bias)), None, None, output.data_ptr(),
            torch.get_num_threads(),
        )  # fmt: skip
        return output

    def _fake_conv(
        self, input: Tensor, panels: Tensor, weight_shape: list[int], stride: list[int], padding: list[int],
        dilation: list[int], *rest: Any,
    ) -> Tensor:  # fmt: skip
        size = out_size(input.shape, weight_shape[2:], stride, padding, dilation)
        has_planes = self.keeps_format and input.is_contiguous()
        kept = torch.contiguous_format if has_planes else torch.channels_last
        shape = (input.shape[0], weight_shape[0], *size)
        return torch.empty(shape, dtype=input.dtype, device=input.device, memory_format=kept)

    def panels_shape(
        self, weight: tuple[int, ...], dilation: tuple[int, ...] = (1, 1), groups: int = 1
    ) -> tuple[int, ...]:
        """Return the shape of the prepacked weight; `weight` is (out, in) or (out, in/groups, height, width)."""
        if self.dtype is torch.int8:
            return int8_panels_shape(weight, dilation)
        if self.has_accumulator:
            return conv_panels_shape(weight, groups)
        return panels_shape(weight[0] // groups, prod(weight[1:]), groups)


@lru_cache(maxsize=4096)
def _unfused(overflow: tuple[Any, ...], output: OutputFields) -> Any:
    """Return a pointer to an epilogue without steps, from what `overflow_of` and `scale_and_bias` return."""
    return ctypes.byref(CFused(COutput(*(overflow or overflow_of(None)), *output), 0, None, None))


@lru_cache(maxsize=4096)
def _planned(
    operator: Operator, shape: tuple[int, ...], strides: tuple[int, ...], how: How, has_planes: bool
) -> tuple[CGeometry, tuple[int, ...], bool, tuple[int, ...]]:
    """Return what `convolution` does, and the shape of the prepacked weight."""
    planned = convolution(shape, strides, how, has_planes=has_planes, reads_rows_apart=operator.keeps_format)
    require_entries(prod(how[0][1:]), operator.most)
    return *planned, operator.panels_shape(how[0], how[3], how[4])


@lru_cache(maxsize=4096)
def _checked_shape(operator: Operator, outputs: int, columns: int) -> tuple[int, ...]:
    """Return the shape of the prepacked weight of a product of rows; ValueError if a sum has too many entries."""
    require_entries(columns, operator.most)
    return operator.panels_shape((outputs, columns))


_SPECIFICATION = (
    Operator("binary_linear", "px_binary_linear", "int out_features", SIGNS, has_accumulator=True),
    Operator("weight_only_linear", "px_weight_only_linear", "int out_features", None, rounds=(0,)),
    Operator("dynamic_int8_linear", "px_weight_only_linear", "int out_features", ROUNDED, rounds=(1,)),
    Operator("int8_linear", "px_int8_linear", "int out_features", INT8, torch.int8),
    Operator(
        "binary_conv2d", "px_binary_conv2d", f"{_CONV}, int groups, int padding_value", SIGNS, has_accumulator=True,
        keeps_format=True,
    ),
    Operator("weight_only_conv2d", "px_weight_only_conv2d", f"{_CONV}, int groups", None, rounds=(0,)),
    Operator("dynamic_int8_conv2d", "px_weight_only_conv2d", f"{_CONV}, int groups", ROUNDED, rounds=(1,)),
    Operator("int8_conv2d", "px_int8_conv2d", _CONV, INT8, torch.int8, keeps_format=True),
)  # fmt: skip

OPERATORS = {operator.name: operator.registered() for operator in _SPECIFICATION}
"""The functions of `torch.ops.proxconnect`, by name."""
