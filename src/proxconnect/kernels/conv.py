"""The convolution of images of signs with kernels of signs, as an operator of torch."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from proxconnect.kernels.library import Geometry
from proxconnect.kernels.operator import (
    HOW,
    contiguous,
    how,
    loaded,
    operators,
    output_of,
    require_fitting,
)
from proxconnect.kernels.panels import PANEL
from proxconnect.layers.accumulator import Accumulator

operators.define(
    "binary_conv2d(Tensor input, Tensor panels, int[4] weight_shape, int[2] stride, int[2] padding, int[2] dilation, "
    f"int groups, int padding_value, {HOW}) -> Tensor"
)
_operator = torch.ops.proxconnect.binary_conv2d.default  # looked up once, which takes longer than the call


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
) -> Tensor:
    """sign(input) convolved with a weight of signs, exactly, its sums held by an accumulator, scaled and shifted.

    (N, in, H, W) → (N, out, H', W') in the memory format channels_last, float32 on the CPU. Both memory formats of the
    input are read as they are. NaN makes NaN of every output that it reaches. No gradient goes through.

    Args:
        input: float32, on the CPU.
        panels: of the weight, as `conv_panels()` makes them.
        weight_shape: (out, in/groups, height, width).
        stride, padding, dilation: of height and width.
        groups: as `nn.Conv2d` has them.
        padding_value: what lies beyond the border, 0, 1 or -1.
        scale, bias, accumulator, instruction_set: as of `binary_linear`.

    Raises:
        ValueError: shapes that do not fit, an instruction set that this machine lacks. TypeError: another dtype or
            device. RuntimeError: the kernels were not built.
    """
    rest = how(scale, bias, accumulator, instruction_set)
    output: Tensor = _operator(input, panels, weight_shape, stride, padding, dilation, groups, padding_value, *rest)
    return output


def _binary_conv2d(
    input: Tensor, panels: Tensor, weight_shape: list[int], stride: list[int], padding: list[int], dilation: list[int],
    groups: int, padding_value: int, scale: Tensor | None, bias: Tensor | None, overflow: int, bits: int, slope: float,
    instruction_set: str | None,
) -> Tensor:  # fmt: skip
    _require_geometry(input, weight_shape, stride, padding, dilation, groups, padding_value)
    channels, inner, *kernel = weight_shape
    words = kernel[0] * kernel[1] * -(-inner // 64)
    shape = (groups * -(-channels // groups // PANEL), words, PANEL)
    require_fitting(input, panels, shape, channels, scale, bias)
    kernels, number = loaded(instruction_set)
    image, pixel_stride = _rows_of_pixels(input)
    output = _blank(input, channels, _out_size(input, kernel, stride, padding, dilation))
    if output.numel() == 0:
        return output
    two = ctypes.c_int64 * 2
    geometry = Geometry(
        input.shape[0], input.shape[1], two(*input.shape[2:]), channels, two(*output.shape[2:]), two(*kernel),
        two(*stride), two(*padding), two(*dilation), groups, image.stride(0), image.stride(1), pixel_stride,
        padding_value,
    )  # fmt: skip
    scale, bias = contiguous(scale), contiguous(bias)
    kernels.px_binary_conv2d(
        number, image.data_ptr(), ctypes.byref(geometry), panels.data_ptr(),
        ctypes.byref(output_of(scale, bias, overflow, bits, slope)), output.data_ptr(), torch.get_num_threads(),
    )  # fmt: skip
    return output


def _fake(
    input: Tensor, panels: Tensor, weight_shape: list[int], stride: list[int], padding: list[int], dilation: list[int],
    *rest: object,
) -> Tensor:  # fmt: skip
    return _blank(input, weight_shape[0], _out_size(input, weight_shape[2:], stride, padding, dilation))


operators.impl("binary_conv2d", _binary_conv2d, "CPU")
torch.library.register_fake("proxconnect::binary_conv2d", _fake, lib=operators)


def _blank(input: Tensor, channels: int, size: list[int]) -> Tensor:
    return input.new_empty(input.shape[0], *size, channels).permute(0, 3, 1, 2)


def _out_size(
    input: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> list[int]:
    return [
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, k, s, p, d in zip(input.shape[2:], kernel, stride, padding, dilation, strict=True)
    ]


def _rows_of_pixels(input: Tensor) -> tuple[Tensor, int]:
    """The image, or a copy, whose pixels follow each other at one distance, row after row; and that distance."""
    height, width = input.shape[2:]
    if height > 1 and width > 1 and input.stride(2) != width * input.stride(3):
        input = input.contiguous()
    return input, input.stride(3) if width > 1 else input.stride(2)  # of a size of 1 the stride says nothing


def _require_geometry(
    input: Tensor,
    weight: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    padding_value: int,
) -> None:
    if input.dim() != 4 or len(weight) != 4 or min(weight) < 1 or min(*stride, *dilation, groups) < 1:
        raise ValueError(
            f"input must be (N, in, H, W), the weight (out, in/groups, height, width), stride, dilation and groups at "
            f"least 1; got input {tuple(input.shape)}, weight {tuple(weight)}"
        )
    if weight[0] % groups or input.shape[1] != weight[1] * groups:
        raise ValueError(f"a weight {tuple(weight)} in {groups} groups does not fit {input.shape[1]} channels")
    if min(padding) < 0 or padding_value not in (-1, 0, 1):
        raise ValueError(f"padding must not be negative, and padding_value 0, 1 or -1; got {padding}, {padding_value}")
    if min(_out_size(input, weight[2:], stride, padding, dilation)) < 1:
        raise ValueError(f"the kernel {tuple(weight[2:])} is larger than the padded input {tuple(input.shape[2:])}")
