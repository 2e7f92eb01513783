"""Convolutions of images of floats in one pass with what stands around them: by whole numbers, or in fixed point."""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from math import prod

import torch
from torch import Tensor, nn

from proxconnect.kernels.arguments import CPU, require_float32, require_weight, resolved
from proxconnect.kernels.convolution import c_geometry, require_convolvable
from proxconnect.kernels.entries import FIXED_POINT, INT8, require_entries
from proxconnect.kernels.epilogue import PLANS, Add, Epilogue, Layout, Step, addresses
from proxconnect.kernels.fixed_point import can_be_fixed, fixed_point_panels
from proxconnect.kernels.fused import FusedKernel
from proxconnect.kernels.library import has_float_conv, loaded
from proxconnect.kernels.prepacked import int8_panels_shape
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


class _FusedImageConv(FusedKernel):
    """Images, or the means of their windows, convolved and then through steps and a max pool.

    `function` is that of C, with the number of an instruction set; `how` is the weight's shape, stride, padding and
    dilation. Raises ValueError for other means and pools.
    """

    def __init__(
        self, function: tuple[Callable[..., int], int], panels: Tensor, how: Sequence[Sequence[int]],
        scale: Tensor | None, bias: Tensor | None, then: tuple[Step, ...], mean: nn.AvgPool2d | None,
        pool: nn.MaxPool2d | None,
    ) -> None:  # fmt: skip
        if mean is not None and not can_take_means(mean):
            raise ValueError(f"a mean must have neither padding nor a divisor of its own; got {mean}")
        if pool is not None and (not can_take_the_largest(pool) or any(isinstance(step, Add) for step in then)):
            raise ValueError(f"a pool must have neither dilation nor indices, and no Add before it; got {pool}, {then}")
        (self._convolve, self._number), self._panels = function, panels
        weight, stride, padding, dilation = (tuple(numbers) for numbers in how)
        if bias is None:  # as torch adds it, which makes 0 of -0
            bias = torch.zeros(weight[0], dtype=torch.float32, device=CPU)
        self._epilogue = Epilogue(weight[0], then, scale, bias, memory_format=torch.channels_last)
        self._call = lru_cache(PLANS)(
            partial(_plan, (weight, stride, padding, dilation, 1), mean, pool, self._epilogue)
        )

    def __call__(self, input: Tensor, *others: Tensor) -> Tensor | None:
        """Return the output; None for images that the function does not take."""
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


class FusedInt8Conv2d(_FusedImageConv):
    """`int8_conv2d` of an input, or of the means of its windows, then through steps and a max pool, to the bit.

    Call it with an input (N, in, H, W), float32 on the CPU in any layout. It returns (N, out, H', W'), float32 in the
    memory format channels_last. `others` are what the steps `Add` add: float32 of the output's shape, contiguous in the
    memory format channels_last. An image that holds inf or NaN becomes NaN. No gradient goes through.

    Args:
        panels, weight_shape, stride, padding, dilation, scale, bias, instruction_set: as of `int8_conv2d`.
        then: the epilogue steps, in order.
        mean: applied to the input first, without padding and divisor.
        pool: applied last, without dilation and indices; then nothing may be added.

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
        how = weight_shape, stride, padding, dilation
        self._made_of = (panels, *how, scale, bias, then, mean, pool, instruction_set)
        if len(weight_shape) != 4 or min(weight_shape) < 1:
            raise ValueError(f"a weight is (out, in, height, width), none of them 0; got {tuple(weight_shape)}")
        require_entries(prod(weight_shape[1:]), INT8)
        shape = int8_panels_shape(weight_shape, dilation)
        require_weight(panels, shape, weight_shape[0], scale, bias, torch.int8)
        kernels, number = loaded(instruction_set)
        super().__init__((kernels.px_fused_int8_conv2d, number), panels, how, scale, bias, then, mean, pool)


class FusedFloatConv2d(_FusedImageConv):
    """`conv2d` of an input, or of the means of its windows, then through steps and a max pool, about as near as torch.

    Call it as `FusedInt8Conv2d`. It returns None for images that it does not take: any that holds inf or NaN, or whose
    largest |x| is more than 256 times the mean |x|, or beyond 2^±60.

    An image is rounded to whole numbers within ±8355710, and each output's weight within ±8355711, by a step each.
    Sums are exact, in four parts that are then added as floats; what they leave out of a product is below 2^-32 of the
    largest one.

    Args:
        weight: float32 (out, in, height, width) on the CPU; of an output, 0 or largest within 2^±60.
        stride, padding, dilation: of height and width; zeros pad.
        bias: float32 (out,).
        then, mean, pool: as of `FusedInt8Conv2d`.

    Raises:
        ValueError: shapes that do not fit, other pools, weights that are not finite or beyond 2^±60. TypeError: another
            dtype or device. RuntimeError: this machine lacks such kernels, which `has_float_conv()` tells.
    """

    def __init__(
        self,
        weight: Tensor,
        stride: Sequence[int] = (1, 1),
        padding: Sequence[int] = (0, 0),
        dilation: Sequence[int] = (1, 1),
        bias: Tensor | None = None,
        then: tuple[Step, ...] = (),
        mean: nn.AvgPool2d | None = None,
        pool: nn.MaxPool2d | None = None,
    ) -> None:
        self._made_of = weight, stride, padding, dilation, bias, then, mean, pool
        require_float32("weight", weight)
        if not can_be_fixed(weight):
            raise ValueError(
                f"a weight is (out, in, height, width), of at most {FIXED_POINT} entries a patch, and finite, the "
                f"largest of an output 0 or within 2^±60; got {tuple(weight.shape)}"
            )
        kernels, number = loaded(None)
        if not has_float_conv():
            raise RuntimeError("this machine has no kernels for float convolutions, which take AMX")
        panels, scale = fixed_point_panels(weight.detach(), dilation)
        require_weight(panels, tuple(panels.shape), len(weight), scale, bias, torch.int8)
        how = weight.shape, stride, padding, dilation
        super().__init__((kernels.px_fused_float_conv2d, number), panels, how, scale, bias, then, mean, pool)


def _plan(
    how: _How, mean: nn.AvgPool2d | None, pool: nn.MaxPool2d | None, epilogue: Epilogue, shape: tuple[int, ...],
    strides: tuple[int, ...],
) -> _Call:  # fmt: skip
    outputs = how[0][0]
    require_convolvable(shape, (outputs, shape[1], 1, 1), (1, 1), (0, 0), (1, 1), 1)  # that it is of images
    means = windows = None
    size = shape[2], shape[3]
    if mean is not None:
        means, size = window_of(mean, size)
    image = (*shape[:2], *size)
    require_convolvable(image, *how)
    geometry = c_geometry(image, _plain_strides(shape, strides), *how)
    size = geometry.out_size[0], geometry.out_size[1]
    added = (shape[0], outputs, *size)
    if pool is not None:
        windows, size = window_of(pool, size)
    return _Call(means, ctypes.byref(geometry), windows, added, epilogue.layout((shape[0],), size))


def _plain_strides(shape: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    """Return strides that say how an image lies, even if a size of 1 lets them say anything."""
    image, channel, row, pixel = strides
    height, width = shape[2:]
    if shape[1] == 1:
        channel = 1
    if width == 1:
        pixel = row if height > 1 else shape[1] * channel
    if height == 1:
        row = width * pixel
    return image, channel, row, pixel
