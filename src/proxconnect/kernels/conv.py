"""Convolve images with prepacked weights: functions of tensors that call the operators."""

from collections.abc import Sequence

from torch import Tensor

from proxconnect.kernels.accumulator import Accumulator
from proxconnect.kernels.arguments import beyond, overflow_of
from proxconnect.kernels.operators import OPERATORS


def binary_conv2d(
    input: Tensor,
    panels: Tensor,
    weight_shape: Sequence[int],
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
    padding_value: int = 0,
    scale: Tensor | None = None,
    bias: Tensor | None = None,
    accumulator: Accumulator | None = None,
    instruction_set: str | None = None,
    threshold: Tensor | None = None,
) -> Tensor:
    """Convolve sign(input) with a weight of signs, exactly; then scale and shift the sums.

    (N, in, H, W) → (N, out, H', W'), float32 on the CPU. The output is contiguous if the input is, else channels_last.
    Neither format is copied. Outputs whose patch contains NaN become NaN. Gradients do not flow through.

    Args:
        input: float32, on the CPU.
        panels: the prepacked weight, from `conv_panels()`.
        weight_shape: (out, in/groups, height, width).
        stride, padding, dilation: for height and width, as in `nn.Conv2d`.
        groups: as in `nn.Conv2d`.
        padding_value: the value of the padding, 0, 1 or -1.
        scale, bias, accumulator, instruction_set: as in `binary_linear`.
        threshold: as in `binary_linear`, with one entry for each input channel or one for all.

    Raises: as in `binary_linear`.
    """
    shifted, overflow = beyond(input, threshold, 2), overflow_of(accumulator)
    rest = stride, padding, dilation, groups, padding_value, scale, bias, *overflow, instruction_set
    return OPERATORS["binary_conv2d"](shifted, panels, weight_shape, *rest)


def weight_only_conv2d(
    input: Tensor,
    panels: Tensor,
    weight_shape: Sequence[int],
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
    scale: Tensor | None = None,
    bias: Tensor | None = None,
    instruction_set: str | None = None,
) -> Tensor:
    """Convolve the input with a weight of signs, times a scale, plus a bias.

    (N, in, H, W) → (N, out, H', W') in the memory format channels_last, float32 on the CPU. Each output is that of
    `weight_only_linear` for a patch of the input, with zeros as padding. An input that is channels_last is fastest.
    Gradients do not flow through.

    Args, Raises: as in `binary_conv2d`, but `panels` are from `patch_panels()`.
    """
    rest = stride, padding, dilation, groups, scale, bias, instruction_set
    return OPERATORS["weight_only_conv2d"](input, panels, weight_shape, *rest)


def dynamic_int8_conv2d(
    input: Tensor,
    panels: Tensor,
    weight_shape: Sequence[int],
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
    scale: Tensor | None = None,
    bias: Tensor | None = None,
    instruction_set: str | None = None,
) -> Tensor:
    """Round each patch of the input to 8 bits with its own step, and convolve as `weight_only_conv2d` does.

    Each output is that of `dynamic_int8_linear` for a patch, a row of in/groups · height · width entries, with the same
    error bounds. A patch that contains NaN makes all outputs of its group NaN.

    Args, Raises: as in `weight_only_conv2d`.
    """
    rest = stride, padding, dilation, groups, scale, bias, instruction_set
    return OPERATORS["dynamic_int8_conv2d"](input, panels, weight_shape, *rest)


def int8_conv2d(
    input: Tensor,
    panels: Tensor,
    weight_shape: Sequence[int],
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    scale: Tensor | None = None,
    bias: Tensor | None = None,
    instruction_set: str | None = None,
) -> Tensor:
    """Round each image to 8 bits with its own step, and convolve it with an 8-bit weight in one group.

    (N, in, H, W) → (N, out, H', W'), float32 on the CPU. The output is contiguous if the input is, else channels_last.
    The padding is 0. Each output is that of `int8_linear` for a patch, but with the step s = max|x| / 127 of the whole
    image. An image that contains inf or NaN becomes NaN.

    Args, Raises: as in `binary_conv2d`, but `panels` are from `int8_panels(levels, dilation)`.
    """
    rest = stride, padding, dilation, scale, bias, instruction_set
    return OPERATORS["int8_conv2d"](input, panels, weight_shape, *rest)
