"""Convolve floats by signs, in 8 bits or in fixed point, between pools and with an epilogue, in one pass."""

from collections.abc import Sequence
from functools import lru_cache, partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from proxconnect.kernels.arguments import CPU, INT8, ROUNDED, require_entries, require_float32, require_weight, resolved
from proxconnect.kernels.epilogue import PLANS, Epilogue, FusedKernel, Layout
from proxconnect.kernels.geometry import How, c_geometry, can_take_means, can_take_the_largest, grouped_shape, window_of
from proxconnect.kernels.library import NUMBERS, CGeometry, CWindow, has_float_kernels, is_built, loaded
from proxconnect.kernels.prepacked import (
    can_be_fixed,
    depthwise_panels,
    fixed_point_panels,
    float_panels,
    int8_panels_shape,
    is_finite_weight,
    panels_shape,
)
from proxconnect.kernels.steps import Step

_ImageCall = tuple[CWindow | None, CGeometry, CWindow | None, tuple[int, ...], Layout]
"""For inputs of one shape and strides: the average pool, the convolution, the max pool, the shape of the addends, the
layout of the output."""


class _FusedImageConv(FusedKernel):
    """An optional average pool, a convolution, epilogue steps and an optional max pool, for float images."""

    def __init__(
        self, function: tuple[Any, ...], panels: Tensor, how: Sequence[Sequence[int]], scale: Tensor | None,
        bias: Tensor | None, then: tuple[Step, ...], mean: nn.AvgPool2d | None, pool: nn.MaxPool2d | None,
        groups: int = 1,
    ) -> None:  # fmt: skip
        if mean is not None and not can_take_means(mean):
            raise ValueError(f"a mean must have neither padding nor a divisor of its own; got {mean}")
        (self._convolve, *self._first), self._panels = function, panels
        weight, stride, padding, dilation = (tuple(numbers) for numbers in how)
        if bias is None:  # as torch adds it, which makes 0 of -0
            bias = torch.zeros(weight[0], dtype=torch.float32, device=CPU)
        self._epilogue = Epilogue(weight[0], then, scale, bias, memory_format=torch.channels_last)
        if pool is not None and (not can_take_the_largest(pool) or self._epilogue.adds):
            raise ValueError(f"a pool must have neither dilation nor indices, and no Add before it; got {pool}, {then}")
        self._call = lru_cache(PLANS)(
            partial(_plan_of_image, (weight, stride, padding, dilation, groups, 0), mean, pool, self._epilogue)
        )

    def __call__(self, input: Tensor, *others: Tensor) -> Tensor | None:
        input = resolved("input", input)
        mean, geometry, pool, shape, output = self._call(input.shape, input.stride())
        _others, added = self._epilogue.added(others, shape)
        y = torch.empty_strided(output.shape, output.strides, dtype=torch.float32, device=CPU)
        if output.is_empty:
            return y
        left = self._convolve(
            *self._first, input.data_ptr(), mean, geometry, self._panels.data_ptr(), self._epilogue.address, added,
            pool, y.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return None if left else y


class FusedWeightOnlyConv2d(_FusedImageConv):
    """A callable for an average pool, `weight_only_conv2d` or `dynamic_int8_conv2d`, epilogue steps and a max pool.

    It is bit-equal to single passes. Call it as `FusedInt8Conv2d`.

    Args:
        panels, weight_shape, stride, padding, dilation, groups, scale, bias, instruction_set: as in
            `weight_only_conv2d`.
        then, mean, pool: as in `FusedInt8Conv2d`.
        rounds: True for `dynamic_int8_conv2d`, which takes at most 2²⁴ entries of a patch.

    Raises: as in `FusedInt8Conv2d`.
    """

    def __init__(
        self, panels: Tensor, weight_shape: Sequence[int], stride: Sequence[int] = (1, 1),
        padding: Sequence[int] = (0, 0), dilation: Sequence[int] = (1, 1), groups: int = 1, scale: Tensor | None = None,
        bias: Tensor | None = None, then: tuple[Step, ...] = (), mean: nn.AvgPool2d | None = None,
        pool: nn.MaxPool2d | None = None, rounds: bool = False, instruction_set: str | None = None,
    ) -> None:  # fmt: skip
        weight = grouped_shape(weight_shape, groups)
        entries = prod(weight[1:])
        require_entries(entries, ROUNDED if rounds else None)
        require_weight(panels, panels_shape(weight[0] // groups, entries, groups), weight[0], scale, bias)
        kernels, number = loaded(instruction_set)
        function = kernels.px_weight_only_conv2d, number, rounds
        super().__init__(function, panels, (weight, stride, padding, dilation), scale, bias, then, mean, pool, groups)


class FusedInt8Conv2d(_FusedImageConv):
    """A callable for an average pool, `int8_conv2d`, epilogue steps and a max pool at once, bit-equal to single passes.

    Call it with an input (N, in, H, W), float32 on the CPU in any layout, and the addends of the `Add` steps, which are
    float32, channels_last and have the shape of the convolution's output. It returns (N, out, H', W'), float32 in the
    memory format channels_last. An image that has inf or NaN after the average pool becomes NaN. Gradients do not flow
    through.

    Args:
        panels, weight_shape, stride, padding, dilation, scale, bias, instruction_set: as in `int8_conv2d`.
        then: the epilogue steps, in order.
        mean: the average pool, without padding and `divisor_override`; None for none.
        pool: the max pool, without dilation and indices; None for none. It excludes `Add` steps.

    Raises: as in `binary_linear`, and ValueError for other pools.
    """

    def __init__(
        self, panels: Tensor, weight_shape: Sequence[int], stride: Sequence[int] = (1, 1),
        padding: Sequence[int] = (0, 0), dilation: Sequence[int] = (1, 1), scale: Tensor | None = None,
        bias: Tensor | None = None, then: tuple[Step, ...] = (), mean: nn.AvgPool2d | None = None,
        pool: nn.MaxPool2d | None = None, instruction_set: str | None = None,
    ) -> None:  # fmt: skip
        how = weight_shape, stride, padding, dilation
        if len(weight_shape) != 4 or min(weight_shape) < 1:
            raise ValueError(f"a weight is (out, in, height, width), none of them 0; got {tuple(weight_shape)}")
        require_entries(prod(weight_shape[1:]), INT8)
        shape = int8_panels_shape(weight_shape, dilation)
        require_weight(panels, shape, weight_shape[0], scale, bias, torch.int8)
        kernels, number = loaded(instruction_set)
        super().__init__((kernels.px_int8_conv2d, number), panels, how, scale, bias, then, mean, pool)


def can_convolve_floats(weight: Tensor, groups: int = 1) -> bool:
    """Return True if `FusedFloatConv2d` supports the shape and the values of a weight on this machine.

    The weight may have any shape. It must be float32 on the CPU, which this does not check.
    """
    if groups != 1:
        return is_built() and is_finite_weight(weight) and weight.shape[:2] == (groups, 1)
    if not has_float_kernels():
        return False
    return can_be_fixed(weight) if loaded(None)[1] == NUMBERS["amx"] else is_finite_weight(weight)


class FusedFloatConv2d(_FusedImageConv):
    """A callable for an average pool, `conv2d`, epilogue steps and a max pool in one pass, about as precise as torch.

    Call it as `FusedInt8Conv2d`. With AVX2 and AVX-512, and in depthwise convolutions, products are added as float32.

    With AMX, each image, and the weight of each output, is rounded to whole numbers within ±8355711 times a step. Sums
    are exact in four parts, which are added as floats. Each product omits less than 2^-32 of the largest product. The
    call returns None if any image, after the average pool, contains inf or NaN, or has a largest |x| that is not 0 and
    either beyond 2^±60 or more than 256 times the mean |x|.

    Args:
        weight: float32 (out, in/groups, height, width) on the CPU, finite. With AMX, in one group, the largest entry of
            each output is 0 or within 2^±60, and an output has at most 2^15 entries.
        stride, padding, dilation: for height and width; the padding holds zeros.
        bias: float32 (out,).
        then, mean, pool: as in `FusedInt8Conv2d`.
        groups: 1, or the number of channels of a depthwise convolution, which has as many outputs.

    Raises:
        ValueError: shapes that do not fit, other pools, other weights. TypeError: another dtype or device.
            RuntimeError: the kernels are not built, or `has_float_kernels()` is False and there is one group.
    """

    def __init__(
        self, weight: Tensor, stride: Sequence[int] = (1, 1), padding: Sequence[int] = (0, 0),
        dilation: Sequence[int] = (1, 1), bias: Tensor | None = None, then: tuple[Step, ...] = (),
        mean: nn.AvgPool2d | None = None, pool: nn.MaxPool2d | None = None, groups: int = 1,
    ) -> None:  # fmt: skip
        require_float32("weight", weight)
        weight, scale = weight.detach(), None
        kernels, number = loaded(None)
        if groups != 1:
            panels = depthwise_panels(weight, groups)
        elif not has_float_kernels():
            raise RuntimeError("this machine has no kernels for float convolutions, which take AVX2, AVX-512 or AMX")
        elif number == NUMBERS["amx"]:
            panels, scale = fixed_point_panels(weight, dilation)
        else:
            panels = float_panels(weight)
        require_weight(panels, tuple(panels.shape), len(weight), scale, bias, panels.dtype)
        how = weight.shape, stride, padding, dilation
        super().__init__((kernels.px_float_conv2d, number), panels, how, scale, bias, then, mean, pool, groups)


def _plan_of_image(
    how: How, mean: nn.AvgPool2d | None, pool: nn.MaxPool2d | None, epilogue: Epilogue, shape: tuple[int, ...],
    strides: tuple[int, ...],
) -> _ImageCall:  # fmt: skip
    outputs = how[0][0]
    if len(shape) != 4 or min(shape[2:]) < 1:
        raise ValueError(f"input must be (N, in, H, W), H and W at least 1; got {tuple(shape)}")
    means = windows = None
    size = shape[2], shape[3]
    if mean is not None:
        means, size = window_of(mean, size)
    image = (*shape[:2], *size)
    geometry = c_geometry(image, _plain_strides(shape, strides), how)
    size = geometry.out_size[0], geometry.out_size[1]
    added = (shape[0], outputs, *size)
    if pool is not None:
        windows, size = window_of(pool, size)
    return means, geometry, windows, added, epilogue.layout((shape[0],), size)


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
