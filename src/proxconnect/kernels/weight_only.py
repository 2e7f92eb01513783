"""Products of floats, exact or rounded to 8 bits, with a matrix of signs, as operators of torch."""

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor

from proxconnect.kernels.entries import ROUNDED, require_entries
from proxconnect.kernels.operator import affine_of, as_rows, columns_of, contiguous, loaded, operators, require_fitting
from proxconnect.kernels.panels import panels_shape

_ARGUMENTS = (
    "(Tensor input, Tensor panels, int out_features, Tensor? scale, Tensor? bias, str? instruction_set) -> Tensor"
)
operators.define(f"weight_only_linear{_ARGUMENTS}")
operators.define(f"dynamic_int8_linear{_ARGUMENTS}")
_exact = torch.ops.proxconnect.weight_only_linear.default  # looked up once, which takes longer than the call
_rounded = torch.ops.proxconnect.dynamic_int8_linear.default


def weight_only_linear(
    input: Tensor,
    panels: Tensor,
    out_features: int,
    scale: Tensor | None = None,
    bias: Tensor | None = None,
    instruction_set: str | None = None,
) -> Tensor:
    """input times a weight of signs, times a scale, plus a bias: as near as sums of floats come to it.

    (…, in) → (…, out), float32 on the CPU: y[m, n] = scale[n] · Σ_k ±x[m, k] + bias[n]. The sum is one of floats, in an
    order that is not said, or where AMX makes it one of whole numbers, x in steps of 2⁻²² of the power of two at or
    below max|x|. Which may change with the shape and the machine; either differs from the exact sum by up to
    in · 2⁻²³ · Σ_k |x[m, k]|. inf and NaN go through as additions let them. No gradient does.

    Args:
        input: float32, on the CPU.
        panels: of the weight, as `panels()` makes them.
        out_features: the rows of the weight.
        scale: float32, one for each output or one for all.
        bias: float32, one for each output.
        instruction_set: one of `instruction_sets()`, by default the best.

    Raises:
        ValueError: shapes that do not fit, an instruction set that this machine lacks. TypeError: another dtype or
            device. RuntimeError: the kernels were not built.
    """
    output: Tensor = _exact(input, panels, out_features, scale, bias, instruction_set)
    return output


def dynamic_int8_linear(
    input: Tensor,
    panels: Tensor,
    out_features: int,
    scale: Tensor | None = None,
    bias: Tensor | None = None,
    instruction_set: str | None = None,
) -> Tensor:
    """input, each row rounded to 8 bits by its own step, times a weight of signs, times a scale, plus a bias.

    As `weight_only_linear`, but row m is first rounded to s_m · q with q = round(x · (127 / max|x|)), whole numbers
    within ±127 (halves to even), and s_m = max|x| / 127. Sums are exact: y[m, n] = scale[n] · s_m · Σ_k ±q + bias[n].

    Up to the rounding of float32, that is within |scale[n]| · in · s_m / 2 of the exact product; where the errors of
    entries are even and independent, it is off by |scale[n]| · s_m · √(in / 12) in the root mean square. A row
    of zeros gives the bias, one that holds inf or NaN is NaN. max|x| counts as at least 2⁻¹⁰⁰.

    Args:
        input, panels, out_features, scale, bias, instruction_set: as of `weight_only_linear`; `in` is at most 2²⁴.

    Raises:
        ValueError, TypeError, RuntimeError: as `weight_only_linear`.
    """
    output: Tensor = _rounded(input, panels, out_features, scale, bias, instruction_set)
    return output


def _implementation(function: str, most: int | None) -> Callable[..., Tensor]:
    def multiply(
        input: Tensor, panels: Tensor, out_features: int, scale: Tensor | None, bias: Tensor | None,
        instruction_set: str | None,
    ) -> Tensor:  # fmt: skip
        columns = columns_of(input)
        require_entries(columns, most)
        require_fitting(input, panels, panels_shape(out_features, columns), out_features, scale, bias)
        kernels, number = loaded(instruction_set)
        rows = as_rows(input)
        scale, bias = contiguous(scale), contiguous(bias)
        output = input.new_empty((*input.shape[:-1], out_features))
        getattr(kernels, function)(
            number, rows.data_ptr(), rows.shape[0], columns, rows.stride(0), panels.data_ptr(), out_features,
            ctypes.byref(affine_of(scale, bias)), output.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return output

    return multiply


def _fake(input: Tensor, panels: Tensor, out_features: int, *rest: object) -> Tensor:
    return input.new_empty(*input.shape[:-1], out_features)


for name, most in (("weight_only_linear", None), ("dynamic_int8_linear", ROUNDED)):
    operators.impl(name, _implementation(f"px_{name}", most), "CPU")
    torch.library.register_fake(f"proxconnect::{name}", _fake, lib=operators)
