"""Convolutions as the kernels take them: what fits together, and what shapes and strides say, found once.

Finding it takes longer than a small convolution.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from proxconnect.kernels.library import CGeometry


@dataclass(frozen=True, slots=True)
class Convolution:
    """How to call a kernel for an input of one shape and one layout."""

    geometry: object
    """The C structure, by reference."""
    output: tuple[int, ...]
    """The shape of the output."""
    memory_format: torch.memory_format
    """That of the output."""
    is_copied: bool
    """Whether the kernel reads a contiguous copy of the input."""
    is_empty: bool


@lru_cache(maxsize=4096)
def convolution(
    shape: tuple[int, ...], strides: tuple[int, ...], weight: tuple[int, ...], stride: tuple[int, ...],
    padding: tuple[int, ...], dilation: tuple[int, ...], groups: int, padding_value: int = 0, *, has_planes: bool,
    reads_rows_apart: bool,
) -> Convolution:  # fmt: skip
    """Return how to convolve an input of this shape and these strides; ValueError unless they fit the weight.

    `has_planes` is of the output: contiguous, else channels last. A kernel that `reads_rows_apart` needs pixels at one
    distance in a row only, if channels follow each other.
    """
    require_convolvable(shape, weight, stride, padding, dilation, groups, padding_value)
    (height, width), (row_stride, pixel_stride) = shape[2:], strides[2:]
    are_equidistant = min(height, width) <= 1 or row_stride == width * pixel_stride
    is_copied = not (are_equidistant or (reads_rows_apart and strides[1] == 1))
    if is_copied:
        strides = torch.empty(shape, device="meta").stride()
    geometry = c_geometry(shape, strides, weight, stride, padding, dilation, groups, padding_value, has_planes)
    output = (shape[0], weight[0], *geometry.out_size)
    return Convolution(ctypes.byref(geometry), output, memory_format(has_planes), is_copied, 0 in output)


def memory_format(has_planes: bool) -> torch.memory_format:
    """Return the memory format of an output."""
    return torch.contiguous_format if has_planes else torch.channels_last


def out_size(
    shape: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> list[int]:
    """Return the height and the width of the output for an (N, in, H, W) input."""
    return [
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, k, s, p, d in zip(shape[2:], kernel, stride, padding, dilation, strict=True)
    ]


def require_convolvable(
    shape: Sequence[int],
    weight: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    padding_value: int = 0,
) -> None:
    """Raise ValueError unless an input of this shape can be convolved with a weight of that shape."""
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


def c_geometry(
    shape: Sequence[int],
    strides: Sequence[int],
    weight: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    padding_value: int = 0,
    has_planes: bool = False,
) -> CGeometry:
    """Return the C structure for an input and a weight that fit."""
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
