"""The product of signs with a matrix of signs, as an operator of torch."""

import ctypes

import torch
from torch import Tensor

from proxconnect.kernels.accumulator import Accumulator
from proxconnect.kernels.entries import SIGNS, require_entries
from proxconnect.kernels.operator import (
    HOW,
    as_rows,
    beyond,
    columns_of,
    contiguous,
    how,
    loaded,
    operators,
    output_of,
    require_fitting,
)
from proxconnect.kernels.panels import panels_shape

operators.define(f"binary_linear(Tensor input, Tensor panels, int out_features, {HOW}) -> Tensor")
_operator = torch.ops.proxconnect.binary_linear.default  # looked up once, which takes longer than the call


def binary_linear(
    input: Tensor,
    panels: Tensor,
    out_features: int,
    scale: Tensor | None = None,
    bias: Tensor | None = None,
    accumulator: Accumulator | None = None,
    instruction_set: str | None = None,
    threshold: Tensor | None = None,
) -> Tensor:
    """sign(input) times a weight of signs, exactly, its sums held by an accumulator, times a scale, plus a bias.

    (…, in) → (…, out), float32 on the CPU, where a row that holds NaN becomes NaN. No gradient goes through.

    Args:
        input: float32, on the CPU.
        panels: of the weight, as `panels()` makes them.
        out_features: the rows of the weight.
        scale: float32, one for each output or one for all.
        bias: float32, one for each output.
        accumulator: what holds the sums; None for one that never overflows.
        instruction_set: one of `instruction_sets()`, by default the best.
        threshold: float32, one for each input or one for all: the signs are those of input − threshold, +1 where they
            are equal.

    Raises:
        ValueError: shapes that do not fit, an instruction set that this machine lacks. TypeError: another dtype or
            device. RuntimeError: the kernels were not built.
    """
    shifted = beyond(input, threshold, 0)
    output: Tensor = _operator(shifted, panels, out_features, *how(scale, bias, accumulator, instruction_set))
    return output


def _binary_linear(
    input: Tensor, panels: Tensor, out_features: int, scale: Tensor | None, bias: Tensor | None, overflow: int,
    bits: int, slope: float, instruction_set: str | None,
) -> Tensor:  # fmt: skip
    columns = columns_of(input)
    require_entries(columns, SIGNS)
    require_fitting(input, panels, panels_shape(out_features, columns), out_features, scale, bias)
    kernels, number = loaded(instruction_set)
    rows = as_rows(input)
    scale, bias = contiguous(scale), contiguous(bias)
    output = input.new_empty((*input.shape[:-1], out_features))
    kernels.px_binary_linear(
        number, rows.data_ptr(), rows.shape[0], columns, rows.stride(0), panels.data_ptr(), out_features,
        ctypes.byref(output_of(scale, bias, overflow, bits, slope)), output.data_ptr(), torch.get_num_threads(),
    )  # fmt: skip
    return output


def _fake(input: Tensor, panels: Tensor, out_features: int, *rest: object) -> Tensor:
    return input.new_empty(*input.shape[:-1], out_features)


operators.impl("binary_linear", _binary_linear, "CPU")
torch.library.register_fake("proxconnect::binary_linear", _fake, lib=operators)
