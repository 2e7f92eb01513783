"""The windows of torch's pools as the kernels take them."""

import ctypes
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from proxconnect.kernels.library import CWindow


def can_take_means(pool: nn.AvgPool2d) -> bool:
    """Whether the kernels take the means of a pool: of pixels of the image alone, divided by their number."""
    return _two(pool.padding) == (0, 0) and pool.divisor_override is None


def can_take_the_largest(pool: nn.MaxPool2d) -> bool:
    """Whether the kernels take the largest under a pool's windows."""
    return not pool.return_indices and _two(pool.dilation) == (1, 1)


def window_of(pool: nn.AvgPool2d | nn.MaxPool2d, size: tuple[int, int]) -> tuple[object, tuple[int, int]]:
    """The structure for images of that size, and the size of the output; what torch raises where there is none."""
    blank = torch.empty(1, 1, *size, device="meta")
    kernel, stride, padding = _two(pool.kernel_size), _two(pool.stride), _two(pool.padding)
    of_torch: Any = functional.max_pool2d if isinstance(pool, nn.MaxPool2d) else functional.avg_pool2d
    answer = of_torch(blank, kernel, stride, padding, ceil_mode=pool.ceil_mode)
    made = answer.shape[-2], answer.shape[-1]
    return ctypes.byref(CWindow(size, made, kernel, stride, padding)), made


def _two(value: int | tuple[int, ...]) -> tuple[int, int]:
    """The values of height and width."""
    height, width = (value, value) if isinstance(value, int) else value
    return height, width
