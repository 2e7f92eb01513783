"""The product of rows, rounded to 8 bits, with a matrix of whole numbers, as an operator of torch."""

import ctypes

import torch
from torch import Tensor

from proxconnect.kernels.entries import INT8, require_entries
from proxconnect.kernels.int8_panels import int8_panels_shape
from proxconnect.kernels.operator import affine_of, as_rows, columns_of, contiguous, loaded, operators, require_fitting

operators.define(
    "int8_linear(Tensor input, Tensor panels, int out_features, Tensor? scale, Tensor? bias, str? instruction_set) "
    "-> Tensor"
)
_operator = torch.ops.proxconnect.int8_linear.default  # looked up once, which takes longer than the call


def int8_linear(
    input: Tensor,
    panels: Tensor,
    out_features: int,
    scale: Tensor | None = None,
    bias: Tensor | None = None,
    instruction_set: str | None = None,
) -> Tensor:
    """input, each row rounded to 8 bits by its own step, times whole numbers, times a scale, plus a bias.

    (…, in) → (…, out), float32 on the CPU: y[m, n] = s_m · Σ_k q[m, k] · weight[n, k] · scale[n] + bias[n], where s_m
    and q are as of `dynamic_int8_linear`. Sums are exact integers; they, s_m, scale and bias are joined in that order,
    in float32. A row of zeros gives the bias, one that holds inf or NaN is NaN. No gradient goes through.

    Args:
        input: float32, on the CPU; `in` is at most 2¹⁷.
        panels: of the weight, as `int8_panels()` makes them.
        out_features: the rows of the weight.
        scale: float32, one for each output or one for all.
        bias: float32, one for each output.
        instruction_set: one of `instruction_sets()`, by default the best.

    Raises:
        ValueError: shapes that do not fit, an instruction set that this machine lacks. TypeError: another dtype or
            device. RuntimeError: the kernels were not built.
    """
    output: Tensor = _operator(input, panels, out_features, scale, bias, instruction_set)
    return output


def _int8_linear(
    input: Tensor, panels: Tensor, out_features: int, scale: Tensor | None, bias: Tensor | None,
    instruction_set: str | None,
) -> Tensor:  # fmt: skip
    columns = columns_of(input)
    require_entries(columns, INT8)
    require_fitting(
        input, panels, int8_panels_shape((out_features, columns)), out_features, scale, bias, torch.int8
    )  # fmt: skip
    kernels, number = loaded(instruction_set)
    rows = as_rows(input)
    scale, bias = contiguous(scale), contiguous(bias)
    output = input.new_empty((*input.shape[:-1], out_features))
    kernels.px_int8_linear(
        number, rows.data_ptr(), rows.shape[0], columns, rows.stride(0), panels.data_ptr(), out_features,
        ctypes.byref(affine_of(scale, bias)), output.data_ptr(), torch.get_num_threads(),
    )  # fmt: skip
    return output


def _fake(input: Tensor, panels: Tensor, out_features: int, *rest: object) -> Tensor:
    return input.new_empty(*input.shape[:-1], out_features)


operators.impl("int8_linear", _int8_linear, "CPU")
torch.library.register_fake("proxconnect::int8_linear", _fake, lib=operators)
