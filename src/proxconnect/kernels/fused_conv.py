"""A convolution of signs with all that follows it up to the next layer, in one pass."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from math import prod
from typing import Any

import torch
from torch import Tensor

from proxconnect.kernels.accumulator import Accumulator
from proxconnect.kernels.arguments import CPU, require_float32, require_weight, resolved
from proxconnect.kernels.convolution import c_geometry, convolution, require_convolvable
from proxconnect.kernels.entries import SIGNS, require_entries
from proxconnect.kernels.epilogue import BEYOND, PLANS, Bits, Epilogue, Layout, Signs, Step, words_and_nan
from proxconnect.kernels.fused import FusedKernel
from proxconnect.kernels.library import CGeometry, loaded
from proxconnect.kernels.prepacked import conv_panels_shape


@dataclass(frozen=True, slots=True)
class _Call:
    """What shape and strides of an input say."""

    geometry: object
    is_copied: bool
    layout: Layout


_How = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...], int, int]
"""A weight's shape, stride, padding and dilation, all of height and width, groups and padding value."""


class FusedConv2d(FusedKernel):
    """sign(input) convolved with a weight of signs; the sums held, scaled and shifted, then through steps or as signs.

    Call it with an input (N, in, H, W), float32 on the CPU in any layout, or with `Bits` of one. It returns (N, out,
    H', W'), float32 in the memory format channels_last, or with `Signs` the `Bits` of it. `others` are what the steps
    `Add` add: float32 of the output's shape, contiguous in the memory format channels_last. NaN makes NaN of every
    output that it reaches. No gradient goes through.

    Args:
        panels: the prepacked weight, by `conv_panels()`.
        weight_shape: (out, in/groups, height, width).
        stride, padding, dilation, groups, padding_value, scale, bias, accumulator, instruction_set: as of
            `binary_conv2d`.
        then: the epilogue steps, in order, or which sums become +1.
        input_shift: added to the channels of a float input before its signs are taken, float32 (in,); `Bits` are taken
            as they are.

    Raises:
        ValueError: shapes that do not fit, an instruction set that this machine lacks. TypeError: another dtype or
            device. RuntimeError: the kernels were not built.
    """

    def __init__(
        self,
        panels: Tensor,
        weight_shape: Sequence[int],
        stride: Sequence[int] = (1, 1),
        padding: Sequence[int] = (0, 0),
        dilation: Sequence[int] = (1, 1),
        groups: int = 1,
        padding_value: int = 0,
        scale: Tensor | None = None,
        bias: Tensor | None = None,
        accumulator: Accumulator | None = None,
        then: tuple[Step, ...] | Signs = (),
        instruction_set: str | None = None,
        input_shift: Tensor | None = None,
    ) -> None:
        self._made_of = (
            panels, weight_shape, stride, padding, dilation, groups, padding_value, scale, bias, accumulator, then,
            instruction_set, input_shift,
        )  # fmt: skip
        weight = tuple(weight_shape)
        if len(weight) != 4 or min(weight) < 1 or groups < 1 or weight[0] % groups:
            raise ValueError(
                "a weight is (out, in/groups, height, width), out a multiple of groups, which are at least 1; got "
                f"{weight} and {groups} groups"
            )
        require_entries(prod(weight[1:]), SIGNS)
        require_weight(panels, conv_panels_shape(weight, groups), weight[0], scale, bias)
        kernels, self._number = loaded(instruction_set)
        self._convolve, self._panels = kernels.px_fused_conv2d, panels
        how = (weight, tuple(stride), tuple(padding), tuple(dilation), groups, padding_value)
        shift = None if input_shift is None else _cyclic(input_shift, weight[1] * groups)
        self._epilogue = Epilogue(weight[0], then, scale, bias, accumulator, torch.channels_last)
        self._call = lru_cache(PLANS)(partial(_plan, how, shift, self._epilogue))
        self._call_of_bits = lru_cache(PLANS)(partial(_plan_of_bits, how, self._epilogue))

    def __call__(self, input: Tensor | Bits, *others: Tensor) -> Tensor | Bits:
        """Return the output, floats or signs."""
        if isinstance(input, Bits):
            words, nan = words_and_nan(input)
            call = self._call_of_bits(words.shape, input.channels)
            source: tuple[int | None, ...] = None, words.data_ptr(), nan
        else:
            input = resolved("input", input)
            call = self._call(input.shape, input.stride())
            image = input.contiguous() if call.is_copied else input
            source = image.data_ptr(), None, None
        arguments = (self._number, *source, call.geometry, self._panels.data_ptr())
        return self._epilogue.run(self._convolve, arguments, call.layout, others)


def _plan(
    how: _How, shift: Tensor | None, epilogue: Epilogue, shape: tuple[int, ...], strides: tuple[int, ...]
) -> _Call:
    """Return the call for float images, with the address of the shift: whoever keeps the call keeps the shift."""
    planned = convolution(tuple(shape), strides, *how, has_planes=False, reads_rows_apart=True)
    batch, _, *size = planned.output
    geometry = planned.geometry if shift is None else _with_shift(planned.geometry, shift)
    return _Call(geometry, planned.is_copied, epilogue.layout((batch,), tuple(size)))


def _plan_of_bits(how: _How, epilogue: Epilogue, shape: tuple[int, ...], channels: int) -> _Call:
    if len(shape) != 4:
        raise ValueError(f"words of images are (N, H, W, words); got {tuple(shape)}")
    batch, height, width, words = shape
    image = (batch, channels, height, width)
    require_convolvable(image, *how)
    geometry = c_geometry(image, (height * width * words, 1, width * words, words), *how)
    return _Call(ctypes.byref(geometry), False, epilogue.layout((batch,), tuple(geometry.out_size)))


def _cyclic(shift: Tensor, channels: int) -> Tensor:
    """Return a copy with the first entries again after the last; ValueError or TypeError for another shape or dtype."""
    require_float32("input_shift", shift)
    if shift.shape != (channels,):
        raise ValueError(f"input_shift must have {channels} entries, one a channel; got {tuple(shift.shape)}")
    return shift.detach()[torch.arange(channels + BEYOND, device=CPU) % channels].contiguous()


def _with_shift(geometry: Any, shift: Tensor) -> object:
    """Return a geometry, which other layers share, with the shift of this one, by reference."""
    own = CGeometry.from_buffer_copy(geometry._obj)
    own.input_shift = shift.data_ptr()
    return ctypes.byref(own)
