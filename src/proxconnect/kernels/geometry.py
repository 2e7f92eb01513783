"""The geometry of convolutions and pools as C takes it."""

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.utils import _pair

from proxconnect.kernels.library import CGeometry, CWindow

How = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...], int, int]
"""A weight's shape, stride, padding, dilation, groups and padding value, as of `nn.Conv2d`."""


@lru_cache(maxsize=4096)  # computing it takes longer than a small convolution
def convolution(
    shape: tuple[int, ...], strides: tuple[int, ...], how: How, *, has_planes: bool, reads_rows_apart: bool
) -> tuple[CGeometry, tuple[int, ...], bool]:
    """Return the geometry for an input of this shape and layout, the output's shape, and whether to copy the input.

    A copied input is contiguous. The output is contiguous if `has_planes`, else channels_last. `reads_rows_apart` is
    True if the kernel accepts gaps between the rows of an image whose channels are adjacent. ValueError unless the
    input fits the weight.
    """
    geometry = c_geometry(shape, strides, how, has_planes)
    (height, width), (row_stride, pixel_stride) = shape[2:], strides[2:]
    are_equidistant = min(height, width) <= 1 or row_stride == width * pixel_stride
    is_copied = not (are_equidistant or (reads_rows_apart and strides[1] == 1))
    if is_copied:
        geometry = c_geometry(shape, torch.empty(shape, device="meta").stride(), how, has_planes)
    return geometry, (shape[0], how[0][0], *geometry.out_size), is_copied


def out_size(
    shape: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> list[int]:
    """Return [height, width] of the output of a convolution for an input of the shape (N, in, H, W)."""
    return [
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, k, s, p, d in zip(shape[2:], kernel, stride, padding, dilation, strict=True)
    ]


def require_convolvable(shape: Sequence[int], how: How) -> None:
    """Raise ValueError unless an input of this shape fits the weight, stride, padding and other sizes in `how`."""
    weight, stride, padding, dilation, groups, padding_value = how
    if not len(stride) == len(padding) == len(dilation) == 2:
        raise ValueError(
            "stride, padding and dilation are of height and width; got "
            f"{tuple(stride)}, {tuple(padding)}, {tuple(dilation)}"
        )
    if len(shape) != 4 or len(weight) != 4 or min(weight) < 1 or min(*stride, *dilation, groups) < 1:
        raise ValueError(
            f"input must be (N, in, H, W), the weight (out, in/groups, height, width), stride, dilation and groups at "
            f"least 1; got input {tuple(shape)}, weight {tuple(weight)}"
        )
    if weight[0] % groups or shape[1] != weight[1] * groups:
        raise ValueError(f"a weight {tuple(weight)} in {groups} groups does not fit {shape[1]} channels")
    if min(padding) < 0 or padding_value not in (-1, 0, 1):
        raise ValueError(f"padding must not be negative, and padding_value 0, 1 or -1; got {padding}, {padding_value}")
    if min(out_size(shape, weight[2:], stride, padding, dilation)) < 1:
        raise ValueError(f"the kernel {tuple(weight[2:])} is larger than the padded input {tuple(shape[2:])}")


def c_geometry(shape: Sequence[int], strides: Sequence[int], how: How, has_planes: bool = False) -> CGeometry:
    """Return the C structure for an input of this shape and these strides; ValueError unless `how` fits the shape."""
    require_convolvable(shape, how)
    weight, stride, padding, dilation, groups, padding_value = how
    (batch, channels, height, width), (image_stride, channel_stride, row_stride, pixel_stride) = shape, strides
    if width <= 1:  # of a size of 1 the stride says nothing
        pixel_stride = row_stride
    if height <= 1:
        row_stride = width * pixel_stride
    two = ctypes.c_int64 * 2
    return CGeometry(
        batch, channels, two(height, width), weight[0], two(*out_size(shape, weight[2:], stride, padding, dilation)),
        two(*weight[2:]), two(*stride), two(*padding), two(*dilation), groups, image_stride, channel_stride, row_stride,
        pixel_stride, padding_value, has_planes,
    )  # fmt: skip


def can_take_means(pool: nn.AvgPool2d) -> bool:
    """Return True if kernels compute this average pool: it has neither padding nor `divisor_override`."""
    return _pair(pool.padding) == (0, 0) and pool.divisor_override is None


def can_take_the_largest(pool: nn.MaxPool2d) -> bool:
    """Return True if kernels compute this max pool: it has no dilation and returns no indices."""
    return not pool.return_indices and _pair(pool.dilation) == (1, 1)


def window_of(pool: nn.AvgPool2d | nn.MaxPool2d, size: tuple[int, int]) -> tuple[CWindow, tuple[int, int]]:
    """Return the structure of a pool for images of this height and width, and the output's height and width."""
    blank = torch.empty(1, 1, *size, device="meta")
    kernel, stride, padding = _pair(pool.kernel_size), _pair(pool.stride), _pair(pool.padding)
    of_torch: Any = functional.max_pool2d if isinstance(pool, nn.MaxPool2d) else functional.avg_pool2d
    answer = of_torch(blank, kernel, stride, padding, ceil_mode=pool.ceil_mode)
    made = answer.shape[-2], answer.shape[-1]
    return CWindow(size, made, kernel, stride, padding), made


def grouped_shape(weight_shape: Sequence[int], groups: int) -> tuple[int, ...]:
    """Return the shape of a weight (out, in/groups, height, width) as a tuple; ValueError unless it fits the groups."""
    weight = tuple(weight_shape)
    if len(weight) != 4 or groups < 1 or weight[0] % groups:
        raise ValueError(
            "a weight is (out, in/groups, height, width), out a multiple of groups, which are at least 1; got "
            f"{weight} and {groups} groups"
        )
    return weight
