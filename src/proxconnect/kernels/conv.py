"""The convolution of images of signs with kernels of signs, as an operator of torch."""

import ctypes
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from proxconnect.kernels.accumulator import Accumulator
from proxconnect.kernels.entries import SIGNS, require_entries
from proxconnect.kernels.geometry import out_size
from proxconnect.kernels.operator import (
    CPU,
    HOW,
    beyond,
    contiguous,
    how,
    loaded,
    operators,
    output_of,
    require_fitting,
)
from proxconnect.kernels.panels import conv_panels_shape
from proxconnect.kernels.plan import memory_format, plan

# The memory format of the output is that of the input, so that a compiler must not choose another for it.
KEEPS_STRIDES = getattr(torch.Tag, "needs_exact_strides", torch.Tag.needs_fixed_stride_order)

operators.define(
    "binary_conv2d(Tensor input, Tensor panels, int[4] weight_shape, int[2] stride, int[2] padding, int[2] dilation, "
    f"int groups, int padding_value, {HOW}) -> Tensor",
    tags=(KEEPS_STRIDES,),
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
    threshold: Tensor | None = None,
) -> Tensor:
    """sign(input) convolved with a weight of signs, exactly, its sums held by an accumulator, scaled and shifted.

    (N, in, H, W) → (N, out, H', W'), float32 on the CPU, contiguous where the input is, else in the memory format
    channels_last. Both formats are read as they are. NaN makes NaN of every output that it reaches. No gradient goes
    through.

    Args:
        input: float32, on the CPU.
        panels: of the weight, as `conv_panels()` makes them.
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
    rest = how(scale, bias, accumulator, instruction_set)
    shifted = beyond(input, threshold, 2)
    output: Tensor = _operator(shifted, panels, weight_shape, stride, padding, dilation, groups, padding_value, *rest)
    return output


def _binary_conv2d(
    input: Tensor, panels: Tensor, weight_shape: list[int], stride: list[int], padding: list[int], dilation: list[int],
    groups: int, padding_value: int, scale: Tensor | None, bias: Tensor | None, overflow: int, bits: int, slope: float,
    instruction_set: str | None,
) -> Tensor:  # fmt: skip
    planned = plan(
        tuple(input.shape), input.stride(), tuple(weight_shape), tuple(stride), tuple(padding), tuple(dilation), groups,
        padding_value, has_planes=input.is_contiguous(), reads_rows_apart=True,
    )  # fmt: skip
    require_entries(prod(weight_shape[1:]), SIGNS)
    require_fitting(input, panels, conv_panels_shape(tuple(weight_shape), groups), weight_shape[0], scale, bias)
    kernels, number = loaded(instruction_set)
    image = input.contiguous() if planned.is_copied else input
    output = torch.empty(planned.output, dtype=torch.float32, device=CPU, memory_format=planned.memory_format)
    if planned.is_empty:
        return output
    scale, bias = contiguous(scale), contiguous(bias)
    kernels.px_binary_conv2d(
        number, image.data_ptr(), planned.geometry, panels.data_ptr(),
        ctypes.byref(output_of(scale, bias, overflow, bits, slope)), output.data_ptr(), torch.get_num_threads(),
    )  # fmt: skip
    return output


def _fake(
    input: Tensor, panels: Tensor, weight_shape: list[int], stride: list[int], padding: list[int], dilation: list[int],
    *rest: object,
) -> Tensor:  # fmt: skip
    size = out_size(input.shape, weight_shape[2:], stride, padding, dilation)
    shape = (input.shape[0], weight_shape[0], *size)
    return torch.empty(
        shape, dtype=input.dtype, device=input.device, memory_format=memory_format(input.is_contiguous())
    )


operators.impl("binary_conv2d", _binary_conv2d, "CPU")
torch.library.register_fake("proxconnect::binary_conv2d", _fake, lib=operators)
