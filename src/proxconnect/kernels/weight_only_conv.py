"""Convolutions of float images, exact or rounded to 8 bits, with kernels of signs, as operators of torch."""

import ctypes
from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor

from proxconnect.kernels.entries import ROUNDED, require_entries
from proxconnect.kernels.geometry import out_size
from proxconnect.kernels.operator import CPU, affine_of, contiguous, loaded, operators, require_fitting
from proxconnect.kernels.panels import panels_shape
from proxconnect.kernels.plan import plan

_ARGUMENTS = (
    "(Tensor input, Tensor panels, int[4] weight_shape, int[2] stride, int[2] padding, int[2] dilation, int groups, "
    "Tensor? scale, Tensor? bias, str? instruction_set) -> Tensor"
)
operators.define(f"weight_only_conv2d{_ARGUMENTS}")
operators.define(f"dynamic_int8_conv2d{_ARGUMENTS}")
_exact = torch.ops.proxconnect.weight_only_conv2d.default  # looked up once, which takes longer than the call
_rounded = torch.ops.proxconnect.dynamic_int8_conv2d.default


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
    """input convolved with a weight of signs, times a scale, plus a bias: no entry of the input is rounded.

    (N, in, H, W) → (N, out, H', W') in the memory format channels_last, float32 on the CPU. Each output is that of
    `weight_only_linear` for a patch of the input, with zeros beyond the border. No gradient goes through.

    Args:
        input: float32, on the CPU; it is read fastest where it is channels_last.
        panels: of the weight, as `patch_panels()` makes them.
        weight_shape: (out, in/groups, height, width).
        stride, padding, dilation: of height and width.
        groups: as `nn.Conv2d` has them.
        scale, bias, instruction_set: as of `weight_only_linear`.

    Raises:
        ValueError: shapes that do not fit, an instruction set that this machine lacks. TypeError: another dtype or
            device. RuntimeError: the kernels were not built.
    """
    rest = stride, padding, dilation, groups, scale, bias, instruction_set
    output: Tensor = _exact(input, panels, weight_shape, *rest)
    return output


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
    """input, each patch rounded to 8 bits by its own step, convolved with a weight of signs, then scaled and shifted.

    As `weight_only_conv2d`; each output is that of `dynamic_int8_linear` for a patch of the input, which has
    in/groups · height · width entries: its bounds hold, and NaN makes NaN of every output of the patch's group.

    Args:
        input, panels, weight_shape, stride, padding, dilation, groups, scale, bias, instruction_set: as of
            `weight_only_conv2d`.

    Raises:
        ValueError, TypeError, RuntimeError: as `weight_only_conv2d`.
    """
    rest = stride, padding, dilation, groups, scale, bias, instruction_set
    output: Tensor = _rounded(input, panels, weight_shape, *rest)
    return output


def _implementation(function: str, most: int | None) -> Callable[..., Tensor]:
    def convolve(
        input: Tensor, panels: Tensor, weight_shape: list[int], stride: list[int], padding: list[int],
        dilation: list[int], groups: int, scale: Tensor | None, bias: Tensor | None, instruction_set: str | None,
    ) -> Tensor:  # fmt: skip
        planned = plan(
            tuple(input.shape), input.stride(), tuple(weight_shape), tuple(stride), tuple(padding), tuple(dilation),
            groups, has_planes=False, reads_rows_apart=False,
        )  # fmt: skip
        channels, *patch = weight_shape
        require_entries(prod(patch), most)
        shape = panels_shape(channels // groups, prod(patch), groups)
        require_fitting(input, panels, shape, channels, scale, bias)
        kernels, number = loaded(instruction_set)
        image = input.contiguous() if planned.is_copied else input
        output = torch.empty(planned.output, dtype=torch.float32, device=CPU, memory_format=planned.memory_format)
        if planned.is_empty:
            return output
        scale, bias = contiguous(scale), contiguous(bias)
        getattr(kernels, function)(
            number, image.data_ptr(), planned.geometry, panels.data_ptr(), ctypes.byref(affine_of(scale, bias)),
            output.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return output

    return convolve


def _fake(
    input: Tensor, panels: Tensor, weight_shape: list[int], stride: list[int], padding: list[int], dilation: list[int],
    *rest: object,
) -> Tensor:  # fmt: skip
    size = out_size(input.shape, weight_shape[2:], stride, padding, dilation)
    return input.new_empty(input.shape[0], *size, weight_shape[0]).permute(0, 3, 1, 2)


for name, most in (("weight_only_conv2d", None), ("dynamic_int8_conv2d", ROUNDED)):
    operators.impl(name, _implementation(f"px_{name}", most), "CPU")
    torch.library.register_fake(f"proxconnect::{name}", _fake, lib=operators)
