"""Convolve float images in 8 bits or in fixed point, in one pass with a mean before and steps and a pool after."""

import ctypes
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from math import prod

import torch
from torch import Tensor, nn

from proxconnect.kernels.arguments import (
    CPU,
    FIXED_POINT,
    INT8,
    require_entries,
    require_float32,
    require_weight,
    resolved,
)
from proxconnect.kernels.epilogue import PLANS, Add, Epilogue, FusedKernel, Layout, Step, addresses
from proxconnect.kernels.geometry import (
    How,
    c_geometry,
    can_take_means,
    can_take_the_largest,
    require_convolvable,
    window_of,
)
from proxconnect.kernels.library import has_float_conv, loaded
from proxconnect.kernels.prepacked import can_be_fixed, fixed_point_panels, int8_panels_shape

_Call = tuple[object, object, object, tuple[int, ...], Layout]
"""For inputs of one shape and strides: the C structures of the mean, the convolution and the pool, the shape of the
addends, and the layout of the output."""


class _FusedImageConv(FusedKernel):
    """Float images through an optional average pool, a convolution, epilogue steps and an optional max pool.

    `function` is the C function and the number of the instruction set. `how` is the weight's shape, stride, padding and
    dilation. ValueError for pools that `window` does not support.
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
            partial(_plan, (weight, stride, padding, dilation, 1, 0), mean, pool, self._epilogue)
        )

    def __call__(self, input: Tensor, *others: Tensor) -> Tensor | None:
        """Return the output, or None for images that the C function does not support. `others` are the addends."""
        input = resolved("input", input)
        mean, geometry, pool, added, output = self._call(input.shape, input.stride())
        others = self._epilogue.added(others, added)
        y = torch.empty_strided(output.shape, output.strides, dtype=torch.float32, device=CPU)
        if output.is_empty:
            return y
        left = self._convolve(
            self._number, input.data_ptr(), mean, geometry, self._panels.data_ptr(), self._epilogue.address,
            addresses(others), pool, y.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return None if left else y


class FusedInt8Conv2d(_FusedImageConv):
    """An average pool, `int8_conv2d`, epilogue steps and a max pool in one pass, with bit-equal results.

    Call it with an input (N, in, H, W), float32 on the CPU in any layout, and the addends of the `Add` steps, which are
    float32, channels_last and have the shape of the convolution's output. It returns (N, out, H', W'), float32 in the
    memory format channels_last. An image that contains inf or NaN becomes NaN. Gradients do not flow through.

    Args:
        panels, weight_shape, stride, padding, dilation, scale, bias, instruction_set: as in `int8_conv2d`.
        then: the epilogue steps, in order.
        mean: the average pool, without padding and `divisor_override`; None for none.
        pool: the max pool, without dilation and indices; None for none. It excludes `Add` steps.

    Raises: as in `binary_linear`, and ValueError for other pools.
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
        if len(weight_shape) != 4 or min(weight_shape) < 1:
            raise ValueError(f"a weight is (out, in, height, width), none of them 0; got {tuple(weight_shape)}")
        require_entries(prod(weight_shape[1:]), INT8)
        shape = int8_panels_shape(weight_shape, dilation)
        require_weight(panels, shape, weight_shape[0], scale, bias, torch.int8)
        kernels, number = loaded(instruction_set)
        super().__init__((kernels.px_fused_int8_conv2d, number), panels, how, scale, bias, then, mean, pool)


class FusedFloatConv2d(_FusedImageConv):
    """An average pool, `conv2d`, epilogue steps and a max pool in one pass, about as precise as torch.

    Call it as `FusedInt8Conv2d`. It returns None if any image contains inf or NaN, has a largest |x| of more than 256
    times its mean |x|, or a largest |x| beyond 2^±60.

    Each image is rounded to whole numbers within ±8355710 times a step, and the weight of each output to whole numbers
    within ±8355711 times a step. Sums are exact in four parts, which are added as floats. Each product omits less than
    2^-32 of the largest product.

    Args:
        weight: float32 (out, in, height, width) on the CPU. The largest entry of each output is 0 or within 2^±60.
        stride, padding, dilation: for height and width; the padding is 0.
        bias: float32 (out,).
        then, mean, pool: as in `FusedInt8Conv2d`.

    Raises:
        ValueError: shapes that do not fit, other pools, weights that are not finite or beyond 2^±60. TypeError: another
            dtype or device. RuntimeError: `has_float_conv()` is False.
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
    how: How, mean: nn.AvgPool2d | None, pool: nn.MaxPool2d | None, epilogue: Epilogue, shape: tuple[int, ...],
    strides: tuple[int, ...],
) -> _Call:  # fmt: skip
    outputs = how[0][0]
    require_convolvable(shape, ((outputs, shape[1], 1, 1), (1, 1), (0, 0), (1, 1), 1, 0))  # that it is of images
    means = windows = None
    size = shape[2], shape[3]
    if mean is not None:
        means, size = window_of(mean, size)
    image = (*shape[:2], *size)
    require_convolvable(image, how)
    geometry = c_geometry(image, _plain_strides(shape, strides), how)
    size = geometry.out_size[0], geometry.out_size[1]
    added = (shape[0], outputs, *size)
    if pool is not None:
        windows, size = window_of(pool, size)
    return means, ctypes.byref(geometry), windows, added, epilogue.layout((shape[0],), size)


def _plain_strides(shape: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of an image, with those of a dense image for dimensions of size 1."""
    image, channel, row, pixel = strides
    height, width = shape[2:]
    if shape[1] == 1:
        channel = 1
    if width == 1:
        pixel = row if height > 1 else shape[1] * channel
    if height == 1:
        row = width * pixel
    return image, channel, row, pixel
