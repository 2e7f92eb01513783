"""Products of rows with prepacked weights, as functions of tensors."""

from torch import Tensor

from proxconnect.kernels.accumulator import Accumulator
from proxconnect.kernels.arguments import beyond, overflow_of
from proxconnect.kernels.operators import OPERATORS


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
    """Multiply sign(input) by a weight of signs, exactly; then scale and shift the sums.

    (…, in) → (…, out), float32 on the CPU. A row that holds NaN becomes NaN. No gradient goes through.

    Args:
        input: float32, on the CPU.
        panels: the prepacked weight, by `panels()`.
        out_features: the rows of the weight.
        scale: float32, one for each output or one for all.
        bias: float32, one for each output.
        accumulator: holds the sums; None for one that never overflows.
        instruction_set: one of `instruction_sets()`, by default the best.
        threshold: float32, one for each input or one for all: the signs are those of input − threshold, +1 if they are
            equal.

    Raises:
        ValueError: shapes that do not fit, an instruction set that this machine lacks. TypeError: another dtype or
            device. RuntimeError: the kernels were not built.
    """
    rest = scale, bias, *overflow_of(accumulator), instruction_set
    return OPERATORS["binary_linear"](beyond(input, threshold, 0), panels, out_features, *rest)


def weight_only_linear(
    input: Tensor,
    panels: Tensor,
    out_features: int,
    scale: Tensor | None = None,
    bias: Tensor | None = None,
    instruction_set: str | None = None,
) -> Tensor:
    """Multiply the input by a weight of signs, times a scale, plus a bias: as near as sums of floats come to it.

    (…, in) → (…, out), float32 on the CPU: y[m, n] = scale[n] · Σ_k ±x[m, k] + bias[n]. The sum is one of floats, in an
    unspecified order, or with AMX one of whole numbers, x in steps of 2⁻²² of the power of two at or below max|x|. The
    choice may change with the shape and the machine. Either differs from the exact sum by up to
    in · 2⁻²³ · Σ_k |x[m, k]|. inf and NaN go through as additions let them. No gradient does.

    Args, Raises: as of `binary_linear`.
    """
    return OPERATORS["weight_only_linear"](input, panels, out_features, scale, bias, instruction_set)


def dynamic_int8_linear(
    input: Tensor,
    panels: Tensor,
    out_features: int,
    scale: Tensor | None = None,
    bias: Tensor | None = None,
    instruction_set: str | None = None,
) -> Tensor:
    """Round each row of the input to 8 bits by a step for each row, and multiply it as `weight_only_linear` does.

    Row m is rounded to s_m · q with q = round(x · (127 / max|x|)), whole numbers within ±127 (halves to even), and
    s_m = max|x| / 127. Sums are exact: y[m, n] = scale[n] · s_m · Σ_k ±q + bias[n]. `in` is at most 2²⁴.

    Up to the rounding of float32, that is within |scale[n]| · in · s_m / 2 of the exact product. If the errors of
    entries are even and independent, it is off by |scale[n]| · s_m · √(in / 12) in the root mean square. A row
    of zeros gives the bias, one that holds inf or NaN is NaN. max|x| counts as at least 2⁻¹⁰⁰.

    Args, Raises: as of `binary_linear`.
    """
    return OPERATORS["dynamic_int8_linear"](input, panels, out_features, scale, bias, instruction_set)


def int8_linear(
    input: Tensor,
    panels: Tensor,
    out_features: int,
    scale: Tensor | None = None,
    bias: Tensor | None = None,
    instruction_set: str | None = None,
) -> Tensor:
    """Round each row of the input to 8 bits as `dynamic_int8_linear` does, and multiply it by whole numbers.

    (…, in) → (…, out), float32 on the CPU: y[m, n] = s_m · Σ_k q[m, k] · weight[n, k] · scale[n] + bias[n]. Sums are
    exact integers; they, s_m, scale and bias are joined in that order, in float32. A row of zeros gives the bias, one
    that holds inf or NaN is NaN. `in` is at most 2¹⁷. No gradient goes through.

    Args, Raises: as of `binary_linear`, but `panels` are by `int8_panels()`.
    """
    return OPERATORS["int8_linear"](input, panels, out_features, scale, bias, instruction_set)
