"""What convolutions of images have in common that run in one pass with what stands around them."""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Tensor, nn

from proxconnect.kernels.epilogue import PLANS, Add, Epilogue, Layout, Step, addresses
from proxconnect.kernels.geometry import geometry_of, require_geometry
from proxconnect.kernels.operator import CPU, resolved
from proxconnect.kernels.window import can_take_means, can_take_the_largest, window_of


@dataclass(frozen=True, slots=True)
class _Call:
    """What shape and strides of an input say."""

    mean: object
    geometry: object
    pool: object
    added: tuple[int, ...]
    """The shape of what is added."""
    output: Layout


_How = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...], int]
"""A weight's shape, stride, padding and dilation, all of height and width, and groups."""


class ImagePass:
    """Images, or the means of their windows, convolved and through steps and a max pool, by one function of C.

    Args:
        convolve: the function, and the number of the instruction set that it is to use.
        panels: the weight as the function reads it, of shape `weight`.
        weight, stride, padding, dilation, scale, bias, then, mean, pool: as of `FusedInt8Conv2d`.

    Raises:
        ValueError: other means and pools, steps that do not fit.
    """

    def __init__(
        self,
        convolve: tuple[Callable[..., int], int],
        panels: Tensor,
        weight: tuple[int, ...],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        scale: Tensor | None,
        bias: Tensor | None,
        then: tuple[Step, ...],
        mean: nn.AvgPool2d | None,
        pool: nn.MaxPool2d | None,
    ) -> None:
        if mean is not None and not can_take_means(mean):
            raise ValueError(f"a mean must have neither padding nor a divisor of its own; got {mean}")
        if pool is not None and (not can_take_the_largest(pool) or any(isinstance(step, Add) for step in then)):
            raise ValueError(f"a pool must have neither dilation nor indices, and no Add before it; got {pool}, {then}")
        self._convolve, self._number = convolve
        self._panels = panels
        if bias is None:  # as torch adds it, which makes 0 of -0
            bias = torch.zeros(weight[0], dtype=torch.float32, device=CPU)
        self._epilogue = Epilogue(weight[0], then, scale, bias, memory_format=torch.channels_last)
        how = weight, tuple(stride), tuple(padding), tuple(dilation), 1
        self._call = lru_cache(PLANS)(partial(_plan, how, mean, pool, self._epilogue))

    def __call__(self, input: Tensor, *others: Tensor) -> Tensor | None:
        """The output; None for images that the function does not take."""
        input = resolved("input", input)
        call = self._call(input.shape, input.stride())
        others, output = self._epilogue.added(others, call.added), call.output
        y = torch.empty_strided(output.shape, output.strides, dtype=torch.float32, device=CPU)
        if output.is_empty:
            return y
        left = self._convolve(
            self._number, input.data_ptr(), call.mean, call.geometry, self._panels.data_ptr(),
            self._epilogue.address, addresses(others), call.pool, y.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return None if left else y


def _plan(
    how: _How, mean: nn.AvgPool2d | None, pool: nn.MaxPool2d | None, epilogue: Epilogue, shape: tuple[int, ...],
    strides: tuple[int, ...],
) -> _Call:  # fmt: skip
    outputs = how[0][0]
    require_geometry(shape, (outputs, shape[1], 1, 1), (1, 1), (0, 0), (1, 1), 1)  # that it is of images
    means = windows = None
    size = shape[2], shape[3]
    if mean is not None:
        means, size = window_of(mean, size)
    image = (*shape[:2], *size)
    require_geometry(image, *how)
    geometry = geometry_of(image, _told(shape, strides), *how)
    size = geometry.out_size[0], geometry.out_size[1]
    added = (shape[0], outputs, *size)
    if pool is not None:
        windows, size = window_of(pool, size)
    return _Call(means, ctypes.byref(geometry), windows, added, epilogue.layout((shape[0],), size))


def _told(shape: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    """Strides that say how an image lies even where a size of 1 lets them say anything."""
    image, channel, row, pixel = strides
    height, width = shape[2:]
    if shape[1] == 1:
        channel = 1
    if width == 1:
        pixel = row if height > 1 else shape[1] * channel
    if height == 1:
        row = width * pixel
    return image, channel, row, pixel
