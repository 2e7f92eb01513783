"""What a convolution's shapes and strides say, found once: finding it takes longer than a small convolution."""

import ctypes
from dataclasses import dataclass
from functools import lru_cache

import torch

from proxconnect.kernels.geometry import are_equidistant, geometry_of, require_geometry


@dataclass(frozen=True, slots=True)
class Plan:
    """How to call a kernel."""

    geometry: object
    """What ctypes makes of the structure by reference."""
    output: tuple[int, ...]
    """The shape."""
    memory_format: torch.memory_format
    """That of the output."""
    is_copied: bool
    """Whether the kernel reads a contiguous copy of the input."""
    is_empty: bool


@lru_cache(maxsize=4096)
def plan(
    shape: tuple[int, ...], strides: tuple[int, ...], weight: tuple[int, ...], stride: tuple[int, ...],
    padding: tuple[int, ...], dilation: tuple[int, ...], groups: int, padding_value: int = 0, *, has_planes: bool,
    reads_rows_apart: bool,
) -> Plan:  # fmt: skip
    """The plan for an input of this shape and these strides; ValueError unless it can be convolved so.

    `has_planes` is of the output: contiguous, else channels last. A kernel that `reads_rows_apart` needs pixels at one
    distance in a row only, where channels follow each other.
    """
    require_geometry(shape, weight, stride, padding, dilation, groups, padding_value)
    is_copied = not (are_equidistant(shape, strides) or (reads_rows_apart and strides[1] == 1))
    if is_copied:
        strides = torch.empty(shape, device="meta").stride()
    geometry = geometry_of(shape, strides, weight, stride, padding, dilation, groups, padding_value, has_planes)
    output = (shape[0], weight[0], *geometry.out_size)
    return Plan(ctypes.byref(geometry), output, memory_format(has_planes), is_copied, 0 in output)


def memory_format(has_planes: bool) -> torch.memory_format:
    """The memory format of an output."""
    return torch.contiguous_format if has_planes else torch.channels_last
