"""A float convolution and what stands around it in one pass, in fixed point, called without torch's dispatcher."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from proxconnect.kernels.entries import FIXED_POINT
from proxconnect.kernels.epilogue import Step
from proxconnect.kernels.image_pass import ImagePass
from proxconnect.kernels.int8_panels import int8_panels
from proxconnect.kernels.library import has_float_conv
from proxconnect.kernels.operator import loaded, require_float32, require_weight
from proxconnect.kernels.remade import Remade

_WHOLE = 0x7F7F7F
"""The largest number of three digits within ±127."""

_LEAST, _MOST = 2.0**-60, 2.0**60  # within which nothing becomes infinite or loses bits


class FusedFloatConv2d(Remade, ImagePass):
    """`conv2d` of an input, or of the means of its windows, then through steps and a max pool, about as near as torch.

    Called with an input (N, in, H, W), float32 on the CPU in any layout. Returns (N, out, H', W'), float32 in the
    memory format channels_last, or None for images that are not for it: any that holds inf or NaN, or whose largest |x|
    is more than 256 times the mean |x|, or beyond 2^±60. `others` are as of `FusedInt8Conv2d`.

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
        panels, scale = _panels(weight.detach(), dilation)
        require_weight(panels, tuple(panels.shape), len(weight), scale, bias, torch.int8)
        convolve = kernels.px_fused_float_conv2d, number
        shape = tuple(weight.shape)
        super().__init__(convolve, panels, shape, stride, padding, dilation, scale, bias, then, mean, pool)


def can_be_fixed(weight: Tensor) -> bool:
    """Whether a weight has a fixed point of three bytes that the kernels take."""
    if weight.dim() != 4 or min(weight.shape) < 1 or prod(weight.shape[1:]) > FIXED_POINT:
        return False
    largest = weight.detach().abs().flatten(1).amax(1)
    return bool(((largest == 0) | ((largest >= _LEAST) & (largest <= _MOST))).all())


def _panels(weight: Tensor, dilation: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Blocks of the weight's digits as they meet those of an image, (⌈out/16⌉, 4, bytes), and the scale of the sums."""
    wide = weight.double()
    step = wide.abs().flatten(1).amax(1).clamp(min=_LEAST) / _WHOLE
    whole = (wide / step.view(-1, 1, 1, 1)).round_().to(torch.int32)
    low, middle, high = ((whole + 0x808080) ^ 0x808080).view(torch.int8).unflatten(-1, (-1, 4)).unbind(-1)[:3]
    none = torch.zeros_like(low)
    meeting = (none, none, high), (none, high, middle), (high, middle, low), (middle, low, none)
    panels = [int8_panels(torch.stack(digits, 2).flatten(1, 2), dilation) for digits in meeting]
    return torch.stack(panels, 1), (2.0**8 * step).float()
