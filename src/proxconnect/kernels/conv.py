"""Convolutions of images with prepacked weights, as functions of tensors."""

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

    (N, in, H, W) → (N, out, H', W'), float32 on the CPU, contiguous if the input is, else in the memory format
    channels_last. Both formats are read as they are. NaN makes NaN of every output that it reaches. No gradient goes
    through.

    Args:
        input: float32, on the CPU.
        panels: the prepacked weight, by `conv_panels()`.
        weight_shape: (out, in/groups, height, width).
        stride, padding, dilation: of height and width.
        groups: as `nn.Conv2d` has them.
        padding_value: what lies beyond the border, 0, 1 or -1.
        scale, bias, accumulator, instruction_set: as of `binary_linear`.
        threshold: float32, one for each input channel or one for all, as of `binary_linear`.

    Raises:
        ValueError: shapes that do not fit, an instruction set that this machine lacks. TypeError: another dtype or
            device. RuntimeError: the kernels were not built.
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
    `weight_only_linear` for a patch of the input, with zeros beyond the border. No gradient goes through. The input is
    read fastest if it is channels_last.

    Args, Raises: as of `binary_conv2d`, but `panels` are by `patch_panels()`.
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
    """Round each patch of the input to 8 bits by a step for each patch, and convolve as `weight_only_conv2d` does.

    Each output is that of `dynamic_int8_linear` for a patch of the input, which has in/groups · height · width entries:
    its bounds hold, and NaN makes NaN of every output of the patch's group.

    Args, Raises: as of `weight_only_conv2d`.
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
    """Round each image to 8 bits by a step for each image, and convolve it with whole numbers.

    (N, in, H, W) → (N, out, H', W'), float32 on the CPU, contiguous if the input is, else in the memory format
    channels_last, in one group, with zeros beyond the border. Each output is that of `int8_linear` for a patch, but the
    step is s = max|x| / 127 of the whole image. An image that holds inf or NaN becomes NaN.

    Args, Raises: as of `binary_conv2d`, but `panels` are by `int8_panels(levels, dilation)`.
    """
    rest = stride, padding, dilation, scale, bias, instruction_set
    return OPERATORS["int8_conv2d"](input, panels, weight_shape, *rest)
