"""The convolution of images, each rounded to 8 bits, with kernels of whole numbers, as an operator of torch."""

import ctypes
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from proxconnect.kernels.conv import KEEPS_STRIDES
from proxconnect.kernels.entries import INT8, require_entries
from proxconnect.kernels.geometry import out_size
from proxconnect.kernels.int8_panels import int8_panels_shape
from proxconnect.kernels.operator import CPU, affine_of, contiguous, loaded, operators, require_fitting
from proxconnect.kernels.plan import memory_format, plan

operators.define(
    "int8_conv2d(Tensor input, Tensor panels, int[4] weight_shape, int[2] stride, int[2] padding, int[2] dilation, "
    "Tensor? scale, Tensor? bias, str? instruction_set) -> Tensor",
    tags=(KEEPS_STRIDES,),
)
_operator = torch.ops.proxconnect.int8_conv2d.default  # looked up once, which takes longer than the call


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
    """input, each image rounded to 8 bits by one step, convolved with whole numbers, then scaled and shifted.

    (N, in, H, W) → (N, out, H', W'), float32 on the CPU, contiguous where the input is, else in the memory format
    channels_last, in one group, with zeros beyond the border. Each output is that of `int8_linear` for a patch, but the
    step is s = max|x| / 127 of the whole image. An image that holds inf or NaN becomes NaN.

    Args:
        input: float32, on the CPU; it is read fastest where it is channels_last.
        panels: of the weight, as `int8_panels(levels, dilation)` makes them.
        weight_shape: (out, in, height, width).
        stride, padding, dilation: of height and width.
        scale, bias, instruction_set: as of `int8_linear`.

    Raises:
        ValueError: shapes that do not fit, an instruction set that this machine lacks. TypeError: another dtype or
            device. RuntimeError: the kernels were not built.
    """
    rest = stride, padding, dilation, scale, bias, instruction_set
    output: Tensor = _operator(input, panels, weight_shape, *rest)
    return output


def _int8_conv2d(
    input: Tensor, panels: Tensor, weight_shape: list[int], stride: list[int], padding: list[int], dilation: list[int],
    scale: Tensor | None, bias: Tensor | None, instruction_set: str | None,
) -> Tensor:  # fmt: skip
    planned = plan(
        tuple(input.shape), input.stride(), tuple(weight_shape), tuple(stride), tuple(padding), tuple(dilation), 1,
        has_planes=input.is_contiguous(), reads_rows_apart=True,
    )  # fmt: skip
    require_entries(prod(weight_shape[1:]), INT8)
    shape = int8_panels_shape(weight_shape, dilation)
    require_fitting(input, panels, shape, weight_shape[0], scale, bias, torch.int8)
    kernels, number = loaded(instruction_set)
    image = input.contiguous() if planned.is_copied else input
    output = torch.empty(planned.output, dtype=torch.float32, device=CPU, memory_format=planned.memory_format)
    if planned.is_empty:
        return output
    scale, bias = contiguous(scale), contiguous(bias)
    kernels.px_int8_conv2d(
        number, image.data_ptr(), planned.geometry, panels.data_ptr(), ctypes.byref(affine_of(scale, bias)),
        output.data_ptr(), torch.get_num_threads(),
    )  # fmt: skip
    return output


def _fake(
    input: Tensor, panels: Tensor, weight_shape: list[int], stride: list[int], padding: list[int], dilation: list[int],
    *rest: object,
) -> Tensor:  # fmt: skip
    size = out_size(input.shape, weight_shape[2:], stride, padding, dilation)
    shape, kept = (input.shape[0], weight_shape[0], *size), memory_format(input.is_contiguous())
    return torch.empty(shape, dtype=input.dtype, device=input.device, memory_format=kept)


operators.impl("int8_conv2d", _int8_conv2d, "CPU")
torch.library.register_fake("proxconnect::int8_conv2d", _fake, lib=operators)
