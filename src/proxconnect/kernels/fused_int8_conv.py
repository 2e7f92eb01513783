"""A convolution with whole numbers and what stands around it in one pass, called without torch's dispatcher."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import torch
from torch import Tensor, nn

from proxconnect.kernels.epilogue import PLANS, Add, Epilogue, Layout, Step
from proxconnect.kernels.geometry import geometry_of, require_geometry
from proxconnect.kernels.int8_panels import MOST_ENTRIES, int8_panels_shape
from proxconnect.kernels.operator import loaded, require_float32, require_weight
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


class FusedInt8Conv2d:
    """`int8_conv2d` of an input, or of the means of its windows, then through steps and a max pool, to the bit.

    Called with an input (N, in, H, W), float32 on the CPU in any layout. Returns (N, out, H', W'), float32 in the
    memory format channels_last. `others` are what the steps `Add` add: float32 of the output's shape, contiguous in the
    memory format channels_last. An image that holds inf or NaN becomes NaN. No gradient goes through. Several threads
    may call at once.

    Args:
        panels, weight_shape, stride, padding, dilation, scale, bias, instruction_set: as of `int8_conv2d`.
        then: the steps, in order.
        mean: what is done to the input, without padding and divisor.
        pool: what is done last, without dilation and indices; then nothing may be added.

    Raises:
        ValueError: shapes that do not fit, other pools, an instruction set that this machine lacks. TypeError: another
            dtype or device. RuntimeError: the kernels were not built.
    """

    def __init__(
        self,
        panels: Tensor,
        weight_shape: Sequence[int],
        stride: Sequence[int] = (1, 1),
        padding: Sequence[int] = (0, 0),
        dilation: Sequence[int] = (1, 1),
        scale: Tensor | None = None,
        bias: Tensor | None = None,
        then: tuple[Step, ...] = (),
        mean: nn.AvgPool2d | None = None,
        pool: nn.MaxPool2d | None = None,
        instruction_set: str | None = None,
    ) -> None:
        self._made_of = (
            panels, weight_shape, stride, padding, dilation, scale, bias, then, mean, pool, instruction_set,
        )  # fmt: skip
        weight = tuple(weight_shape)
        if len(weight) != 4 or min(weight) < 1 or prod(weight[1:]) > MOST_ENTRIES:
            raise ValueError(
                f"a weight is (out, in, height, width), of at most {MOST_ENTRIES} entries a patch; got {weight}"
            )
        if mean is not None and not can_take_means(mean):
            raise ValueError(f"a mean must have neither padding nor a divisor of its own; got {mean}")
        if pool is not None and (not can_take_the_largest(pool) or any(isinstance(step, Add) for step in then)):
            raise ValueError(f"a pool must have neither dilation nor indices, and no Add before it; got {pool}, {then}")
        require_weight(panels, int8_panels_shape(weight, dilation), weight[0], scale, bias, torch.int8)
        kernels, self._number = loaded(instruction_set)
        self._convolve, self._panels, self._at = kernels.px_fused_int8_conv2d, panels, panels.data_ptr()
        self._how = (weight, tuple(stride), tuple(padding), tuple(dilation), 1)
        self._mean, self._pool = mean, pool
        if bias is None:  # as `int8_conv2d` adds it, which makes 0 of -0
            bias = torch.zeros(weight[0], dtype=torch.float32, device="cpu")
        self._epilogue = Epilogue(weight[0], then, scale, bias, memory_format=torch.channels_last)
        self._call = lru_cache(PLANS)(self._plan)

    def __reduce__(self) -> tuple[object, ...]:
        """What copies are made of, since addresses are no part of them."""
        return type(self), self._made_of

    def __call__(self, input: Tensor, *others: Tensor) -> Tensor:
        """The output."""
        call = self._call(input.shape, input.stride())
        if input.dtype is not torch.float32 or not input.is_cpu:
            require_float32("input", input)
        added, output = self._epilogue.added(others, call.added), call.output
        y = torch.empty_strided(output.shape, output.strides, dtype=torch.float32)
        if not output.is_empty:
            self._convolve(
                self._number, input.data_ptr(), call.mean, call.geometry, self._at, self._epilogue.address, added,
                call.pool, y.data_ptr(), torch.get_num_threads(),
            )  # fmt: skip
        return y

    def _plan(self, shape: tuple[int, ...], strides: tuple[int, ...]) -> _Call:
        require_geometry(shape, (self._how[0][0], shape[1], 1, 1), (1, 1), (0, 0), (1, 1), 1)  # that it is of images
        mean = pool = None
        size = shape[2], shape[3]
        if self._mean is not None:
            mean, size = window_of(self._mean, size)
        image = (*shape[:2], *size)
        require_geometry(image, *self._how)
        geometry = geometry_of(image, _told(shape, strides), *self._how)
        size = geometry.out_size[0], geometry.out_size[1]
        added = (shape[0], self._how[0][0], *size)
        if self._pool is not None:
            pool, size = window_of(self._pool, size)
        return _Call(mean, ctypes.byref(geometry), pool, added, self._epilogue.layout((shape[0],), size))


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
