"""Prepack float weights in fixed point: three signed bytes for each float."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from proxconnect.kernels.arguments import FIXED_POINT
from proxconnect.kernels.prepacked import int8_panels

_WHOLE = 0x7F7F7F
"""The largest whole number of three signed bytes within ±127."""

_LEAST, _MOST = 2.0**-60, 2.0**60  # within which nothing becomes infinite or loses bits


def can_be_fixed(weight: Tensor) -> bool:
    """Return True if `fixed_point_panels` supports a weight.

    It must be (out, in, height, width) with at most 2^15 products in a sum. The largest entry of each output must be 0
    or within 2^±60.
    """
    if weight.dim() != 4 or min(weight.shape) < 1 or prod(weight.shape[1:]) > FIXED_POINT:
        return False
    largest = weight.detach().abs().flatten(1).amax(1)
    return bool(((largest == 0) | ((largest >= _LEAST) & (largest <= _MOST))).all())


def fixed_point_panels(weight: Tensor, dilation: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the bytes of a weight as int8 (⌈out/16⌉, 4, bytes), and the scale of the kernel's sums for each output.

    Index i of dimension 1 holds the rows that give part i of the four parts of a sum.
    """
    wide = weight.double()
    step = wide.abs().flatten(1).amax(1).clamp(min=_LEAST) / _WHOLE
    whole = (wide / step.view(-1, 1, 1, 1)).round_().to(torch.int32)
    low, middle, high = ((whole + 0x808080) ^ 0x808080).view(torch.int8).unflatten(-1, (-1, 4)).unbind(-1)[:3]
    none = torch.zeros_like(low)
    meeting = (none, none, high), (none, high, middle), (high, middle, low), (middle, low, none)
    panels = [int8_panels(torch.stack(digits, 2).flatten(1, 2), dilation) for digits in meeting]
    return torch.stack(panels, 1), (2.0**8 * step).float()
