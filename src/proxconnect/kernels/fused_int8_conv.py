"""A convolution with whole numbers and what stands around it in one pass, called without torch's dispatcher."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from proxconnect.kernels.entries import INT8, require_entries
from proxconnect.kernels.epilogue import Step
from proxconnect.kernels.image_pass import ImagePass
from proxconnect.kernels.int8_panels import int8_panels_shape
from proxconnect.kernels.operator import loaded, require_weight
from proxconnect.kernels.remade import Remade


class FusedInt8Conv2d(Remade, ImagePass):
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
        if len(weight) != 4 or min(weight) < 1:
            raise ValueError(f"a weight is (out, in, height, width), none of them 0; got {weight}")
        require_entries(prod(weight[1:]), INT8)
        require_weight(panels, int8_panels_shape(weight, dilation), weight[0], scale, bias, torch.int8)
        kernels, number = loaded(instruction_set)
        convolve = kernels.px_fused_int8_conv2d, number
        super().__init__(convolve, panels, weight, stride, padding, dilation, scale, bias, then, mean, pool)
