"""Convolve signs, and apply an epilogue, in one pass."""

from collections.abc import Sequence
from functools import lru_cache, partial
from math import prod

import torch
from torch import Tensor

from proxconnect.kernels.accumulator import Accumulator
from proxconnect.kernels.arguments import SIGNS, require_entries, require_vector, require_weight, resolved
from proxconnect.kernels.epilogue import PLANS, Bits, Epilogue, FusedKernel, Layout, padded, words_and_nan
from proxconnect.kernels.geometry import How, c_geometry, convolution, grouped_shape
from proxconnect.kernels.library import CGeometry, loaded
from proxconnect.kernels.prepacked import conv_panels_shape
from proxconnect.kernels.steps import Signs, Step

_Call = tuple[CGeometry, bool, Layout]
"""For inputs of one shape and strides: the geometry, True if the input must be copied, and the output's layout."""


class FusedConv2d(FusedKernel):
    """A callable for `binary_conv2d` and epilogue steps in one pass, or for the signs of the sums.

    Call it with an input (N, in, H, W), float32 on the CPU in any layout or `Bits`, and the addends of the `Add` steps,
    which are float32, channels_last and have the output's shape. It returns (N, out, H', W') in float32 and the memory
    format channels_last, or `Bits` if `then` is `Signs`. Outputs whose patch contains NaN become NaN, with `Signs`
    in all channels. Gradients do not flow through.

    Args:
        panels: the prepacked weight, from `conv_panels()`.
        weight_shape: (out, in/groups, height, width).
        stride, padding, dilation, groups, padding_value, scale, bias, accumulator, instruction_set: as in
            `binary_conv2d`.
        then: the epilogue steps, in order, or `Signs`.
        input_shift: float32 (in,), added to the channels of a float input before its signs are taken, but not to
            `Bits`.

    Raises: as in `binary_linear`.
    """

    def __init__(
        self, panels: Tensor, weight_shape: Sequence[int], stride: Sequence[int] = (1, 1),
        padding: Sequence[int] = (0, 0), dilation: Sequence[int] = (1, 1), groups: int = 1, padding_value: int = 0,
        scale: Tensor | None = None, bias: Tensor | None = None, accumulator: Accumulator | None = None,
        then: tuple[Step, ...] | Signs = (), instruction_set: str | None = None, input_shift: Tensor | None = None,
    ) -> None:  # fmt: skip
        weight = grouped_shape(weight_shape, groups)
        require_entries(prod(weight[1:]), SIGNS)
        require_weight(panels, conv_panels_shape(weight, groups), weight[0], scale, bias)
        kernels, self._number = loaded(instruction_set)
        self._convolve, self._panels = kernels.px_binary_conv2d, panels
        how = (weight, tuple(stride), tuple(padding), tuple(dilation), groups, padding_value)
        shift = None
        if input_shift is not None:
            require_vector("input_shift", input_shift, weight[1] * groups)
            shift = padded(input_shift.reshape(-1))
        self._epilogue = Epilogue(weight[0], then, scale, bias, accumulator, torch.channels_last)
        self._call = lru_cache(PLANS)(partial(_plan, how, shift, self._epilogue))
        self._call_of_bits = lru_cache(PLANS)(partial(_plan_of_bits, how, self._epilogue))

    def __call__(self, input: Tensor | Bits, *others: Tensor) -> Tensor | Bits:
        """Convolve the input and run the epilogue; return floats or bits. `others` are the addends."""
        if isinstance(input, Bits):
            words, nan = words_and_nan(input)
            geometry, _, layout = self._call_of_bits(words.shape, input.channels)
            source: tuple[int | None, ...] = None, words.data_ptr(), nan
        else:
            input = resolved("input", input)
            geometry, is_copied, layout = self._call(input.shape, input.stride())
            image = input.contiguous() if is_copied else input
            source = image.data_ptr(), None, None
        arguments = (self._number, *source, geometry, self._panels.data_ptr())
        return self._epilogue.run(self._convolve, arguments, layout, others)


def _plan(
    how: How, shift: Tensor | None, epilogue: Epilogue, shape: tuple[int, ...], strides: tuple[int, ...]
) -> _Call:
    """Return the call for float images. It holds the address of the shift, which you must keep alive."""
    geometry, output, is_copied = convolution(shape, strides, how, has_planes=False, reads_rows_apart=True)
    if shift is not None:  # in a copy, because other layers share the cached geometry
        geometry = CGeometry.from_buffer_copy(geometry)
        geometry.input_shift = shift.data_ptr()
    return geometry, is_copied, epilogue.layout(output[:1], output[2:])


def _plan_of_bits(how: How, epilogue: Epilogue, shape: tuple[int, ...], channels: int) -> _Call:
    if len(shape) != 4:
        raise ValueError(f"words of images are (N, H, W, words); got {tuple(shape)}")
    batch, height, width, words = shape
    image = (batch, channels, height, width)
    geometry = c_geometry(image, (height * width * words, 1, width * words, words), how)
    return geometry, False, epilogue.layout((batch,), tuple(geometry.out_size))
