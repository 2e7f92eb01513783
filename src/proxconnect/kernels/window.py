"""The pools that kernels compute, and their C structure."""

import ctypes
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.utils import _pair

from proxconnect.kernels.library import CWindow


def can_take_means(pool: nn.AvgPool2d) -> bool:
    """Return True if kernels compute this pool: it has neither padding nor `divisor_override`."""
    return _pair(pool.padding) == (0, 0) and pool.divisor_override is None


def can_take_the_largest(pool: nn.MaxPool2d) -> bool:
    """Return True if kernels compute this pool: it has no dilation and returns no indices."""
    return not pool.return_indices and _pair(pool.dilation) == (1, 1)


def window_of(pool: nn.AvgPool2d | nn.MaxPool2d, size: tuple[int, int]) -> tuple[object, tuple[int, int]]:
    """Return the `CWindow` for images of this height and width, by reference, and the height and width of the output.

    Raises what torch raises if the pool does not fit the image.
    """
    blank = torch.empty(1, 1, *size, device="meta")
    kernel, stride, padding = _pair(pool.kernel_size), _pair(pool.stride), _pair(pool.padding)
    of_torch: Any = functional.max_pool2d if isinstance(pool, nn.MaxPool2d) else functional.avg_pool2d
    answer = of_torch(blank, kernel, stride, padding, ceil_mode=pool.ceil_mode)
    made = answer.shape[-2], answer.shape[-1]
    return ctypes.byref(CWindow(size, made, kernel, stride, padding)), made
