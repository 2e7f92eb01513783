"""Convolutions of images as the kernels take them: what fits together, and how an image lies in memory."""

import ctypes
from collections.abc import Sequence

from proxconnect.kernels.library import Geometry


def out_size(
    shape: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> list[int]:
    """Height and width of what an (N, in, H, W) input becomes."""
    return [
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, k, s, p, d in zip(shape[2:], kernel, stride, padding, dilation, strict=True)
    ]


def require_geometry(
    shape: Sequence[int],
    weight: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    padding_value: int = 0,
) -> None:
    """Raise ValueError unless an input of this shape can be convolved so."""
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


def are_equidistant(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether the pixels of an image lie at one distance, row after row."""
    (height, width), (row_stride, pixel_stride) = shape[2:], strides[2:]
    return min(height, width) <= 1 or row_stride == width * pixel_stride


def geometry_of(
    shape: Sequence[int],
    strides: Sequence[int],
    weight: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    padding_value: int = 0,
    has_planes: bool = False,
) -> Geometry:
    """The C structure, for an input of this shape and these strides, which `require_geometry` has let pass."""
    (batch, channels, height, width), (image_stride, channel_stride, row_stride, pixel_stride) = shape, strides
    if width <= 1:  # of a size of 1 the stride says nothing
        pixel_stride = row_stride
    if height <= 1:
        row_stride = width * pixel_stride
    two = ctypes.c_int64 * 2
    return Geometry(
        batch, channels, two(height, width), weight[0], two(*out_size(shape, weight[2:], stride, padding, dilation)),
        two(*weight[2:]), two(*stride), two(*padding), two(*dilation), groups, image_stride, channel_stride, row_stride,
        pixel_stride, padding_value, has_planes,
    )  # fmt: skip
