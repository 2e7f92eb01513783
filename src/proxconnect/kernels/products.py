"""Multiply rows and images by prepacked weights: functions of tensors that call the operators."""

from collections.abc import Sequence

from torch import Tensor

from proxconnect.kernels.accumulator import Accumulator
from proxconnect.kernels.arguments import overflow_of
from proxconnect.kernels.operators import OPERATORS


def binary_linear(
    input: Tensor, panels: Tensor, out_features: int, scale: Tensor | None = None, bias: Tensor | None = None,
    accumulator: Accumulator | None = None, instruction_set: str | None = None,
) -> Tensor:  # fmt: skip
    """Multiply sign(input) by a weight of signs, exactly; then multiply the sums by a scale and add a bias.

    (…, in) → (…, out), float32 on the CPU. A row that contains NaN becomes NaN. Gradients do not flow through.

    On a GPU all tensors are on its device, triton is installed, and inputs, scales and biases are float32, float16 or
    bfloat16. The output has the dtype of the input. Sums in float32 are those of the CPU.

    Args:
        input: float32, on the CPU.
        panels: the prepacked weight, from `panels()`.
        out_features: the number of rows of the weight.
        scale: float32, one entry for each output or one for all.
        bias: float32, one entry for each output.
        accumulator: the accumulator in which the sums overflow; None for sums that never do.
        instruction_set: one of `instruction_sets()`, by default the best. None on a GPU.

    Raises:
        ValueError: shapes that do not fit, an instruction set that this machine lacks. TypeError: another dtype or
            device. RuntimeError: the kernels were not built, or triton is not installed.
    """
    rest = scale, bias, *overflow_of(accumulator), instruction_set
    return OPERATORS["binary_linear"](input, panels, out_features, *rest)


def weight_only_linear(
    input: Tensor, panels: Tensor, out_features: int, scale: Tensor | None = None, bias: Tensor | None = None,
    instruction_set: str | None = None,
) -> Tensor:  # fmt: skip
    """Multiply float inputs by a weight of signs, times a scale, plus a bias.

    (…, in) → (…, out), float32 on the CPU: y[m, n] = scale[n] · Σ_k ±x[m, k] + bias[n]. The sum is exact up to
    in · 2⁻²³ · Σ_k |x[m, k]|. Floats are added in an unspecified order. With AMX, x may first be rounded to multiples
    of 2⁻²² times the power of two at or below max|x|. The choice may change with the shape and the machine. inf and
    NaN propagate as in float additions. Gradients do not flow through. GPUs never round inputs.

    Args, GPUs, Raises: as in `binary_linear`, but the scale may also be that of `group_scales`: then the sum of each
    group of inputs is multiplied by a scale of its own.
    """
    return OPERATORS["weight_only_linear"](input, panels, out_features, scale, bias, instruction_set)


def dynamic_int8_linear(
    input: Tensor, panels: Tensor, out_features: int, scale: Tensor | None = None, bias: Tensor | None = None,
    instruction_set: str | None = None,
) -> Tensor:  # fmt: skip
    """Round each row of the input to 8 bits with its own step, and multiply it as `weight_only_linear` does.

    Row m is rounded to s_m · q with q = round(x · (127 / max|x|)), whole numbers within ±127 (halves to even), and
    s_m = max|x| / 127. Sums are exact: y[m, n] = scale[n] · s_m · Σ_k ±q + bias[n]. `in` is at most 2²⁴.

    Up to the rounding of float32, the error is at most |scale[n]| · in · s_m / 2. Its root mean square is
    |scale[n]| · s_m · √(in / 12) if the rounding errors are uniform and independent. A row of zeros gives the bias. A
    row that contains inf or NaN becomes NaN. max|x| counts as at least 2⁻¹⁰⁰.

    Args, Raises: as in `weight_only_linear`. With scales of groups, sums of a group are exact, and added in float32.
    """
    return OPERATORS["dynamic_int8_linear"](input, panels, out_features, scale, bias, instruction_set)


def int8_linear(
    input: Tensor, panels: Tensor, out_features: int, scale: Tensor | None = None, bias: Tensor | None = None,
    instruction_set: str | None = None,
) -> Tensor:  # fmt: skip
    """Round each row of the input to 8 bits as `dynamic_int8_linear` does, and multiply it by an 8-bit weight.

    (…, in) → (…, out), float32 on the CPU: y[m, n] = s_m · Σ_k q[m, k] · weight[n, k] · scale[n] + bias[n]. Sums are
    exact integers. They are multiplied by s_m, then by the scale, and the bias is added, in float32. A row of zeros
    gives the bias. A row that contains inf or NaN becomes NaN. `in` is at most 2¹⁷. Gradients do not flow through.

    Args, Raises: as in `binary_linear`, but `panels` are from `int8_panels()`.
    """
    return OPERATORS["int8_linear"](input, panels, out_features, scale, bias, instruction_set)


def binary_conv2d(
    input: Tensor, panels: Tensor, weight_shape: Sequence[int], stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0), dilation: Sequence[int] = (1, 1), groups: int = 1, padding_value: int = 0,
    scale: Tensor | None = None, bias: Tensor | None = None, accumulator: Accumulator | None = None,
    instruction_set: str | None = None,
) -> Tensor:  # fmt: skip
    """Convolve sign(input) with a weight of signs, exactly; then multiply the sums by a scale and add a bias.

    (N, in, H, W) → (N, out, H', W'), float32 on the CPU. The output is contiguous if the input is, else channels_last.
    Neither format is copied. Outputs whose patch contains NaN become NaN. Gradients do not flow through.

    Args:
        input: float32, on the CPU.
        panels: the prepacked weight, from `conv_panels()`.
        weight_shape: (out, in/groups, height, width).
        stride, padding, dilation, groups: as in `nn.Conv2d`; the first three are for height and width.
        padding_value: the value of the padding, 0, 1 or -1.
        scale, bias, accumulator, instruction_set: as in `binary_linear`.

    GPUs, Raises: as in `binary_linear`. On a GPU there is one group.
    """
    rest = stride, padding, dilation, groups, padding_value, scale, bias, *overflow_of(accumulator), instruction_set
    return OPERATORS["binary_conv2d"](input, panels, weight_shape, *rest)


def weight_only_conv2d(
    input: Tensor, panels: Tensor, weight_shape: Sequence[int], stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0), dilation: Sequence[int] = (1, 1), groups: int = 1, scale: Tensor | None = None,
    bias: Tensor | None = None, instruction_set: str | None = None,
) -> Tensor:  # fmt: skip
    """Convolve the input with a weight of signs, times a scale, plus a bias.

    (N, in, H, W) → (N, out, H', W') in the memory format channels_last, float32 on the CPU. Each output is that of
    `weight_only_linear` for a patch of the input, with zeros as padding. An input that is channels_last is fastest.
    Gradients do not flow through.

    Args, GPUs, Raises: as in `binary_conv2d`, but `panels` are from `patch_panels()`.
    """
    rest = stride, padding, dilation, groups, scale, bias, instruction_set
    return OPERATORS["weight_only_conv2d"](input, panels, weight_shape, *rest)


def dynamic_int8_conv2d(
    input: Tensor, panels: Tensor, weight_shape: Sequence[int], stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0), dilation: Sequence[int] = (1, 1), groups: int = 1, scale: Tensor | None = None,
    bias: Tensor | None = None, instruction_set: str | None = None,
) -> Tensor:  # fmt: skip
    """Round each image to 8 bits with its own step, and convolve as `weight_only_conv2d` does.

    Each output is that of `dynamic_int8_linear` for a patch, a row of in/groups · height · width entries, but with the
    step s = max|x| / 127 of the whole image. The error bounds are the same. Pixels that a 1 × 1 kernel skips do not
    count if it has no padding. An image that contains inf or NaN becomes NaN.

    Args, Raises: as in `weight_only_conv2d`.
    """
    rest = stride, padding, dilation, groups, scale, bias, instruction_set
    return OPERATORS["dynamic_int8_conv2d"](input, panels, weight_shape, *rest)


def int8_conv2d(
    input: Tensor, panels: Tensor, weight_shape: Sequence[int], stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0), dilation: Sequence[int] = (1, 1), scale: Tensor | None = None,
    bias: Tensor | None = None, instruction_set: str | None = None,
) -> Tensor:  # fmt: skip
    """Round each image to 8 bits with its own step, and convolve it with an 8-bit weight in one group.

    (N, in, H, W) → (N, out, H', W'), float32 on the CPU. The output is contiguous if the input is, else channels_last.
    The padding holds zeros. Each output is that of `int8_linear` for a patch, but with the step s = max|x| / 127 of the
    whole image. An image that contains inf or NaN becomes NaN.

    Args, Raises: as in `binary_conv2d`, but `panels` are from `int8_panels(levels, dilation)`.
    """
    rest = stride, padding, dilation, scale, bias, instruction_set
    return OPERATORS["int8_conv2d"](input, panels, weight_shape, *rest)
