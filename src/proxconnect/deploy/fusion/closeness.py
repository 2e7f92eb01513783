"""Measure the errors of outputs, relative to the largest expected entry."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from proxconnect._support.example import tensors_in
from proxconnect.kernels.epilogue import Bits

ROUNDING = 1e-4
"""The largest error of float operations that is rounding, relative to the largest expected entry."""

_SMALLEST = 1e-300
"""The gap of a wrong sign if the expected float is 0, which has the sign +1."""


def gap(expected: Any, answer: Any) -> float:
    """Return the largest absolute error of a tensor in `answer`, relative to the largest |entry| of the expected one.

    The largest ratio of all tensors counts. Infinite if shapes differ, or if only one of two entries is NaN.
    """
    rights, mine = tensors_in(expected), tensors_in(answer)
    if [t.shape for t in rights] != [t.shape for t in mine]:
        return float("inf")
    return max((outside(b, [a]) for a, b in zip(rights, mine, strict=True)), default=0.0)


@torch.no_grad()
def outside(answer: Tensor, bounds: Sequence[Tensor], channels: int | None = None) -> float:
    """Return how far `answer` is outside the range of `bounds` at most, relative to the largest |entry| of bounds[0].

    The range of an entry is from its smallest to its largest value in `bounds`. If `channels`, a dimension, is given,
    errors are relative to the largest entry of their channel. Infinite if shapes differ, or if `answer` or bounds[0]
    alone has NaN in an entry.
    """
    if answer.shape != bounds[0].shape:
        return float("inf")
    if answer.dtype == bounds[0].dtype and torch.equal(answer, bounds[0]):
        return 0.0
    mine, right = answer.double(), bounds[0].double()
    same = (mine == right) | (mine.isnan() & right.isnan())
    if bool(same.all()):
        return 0.0
    low, high = _range(bounds)
    beyond = torch.where(same, 0.0, torch.maximum(low - mine, mine - high))
    return _by_largest(beyond.clamp(min=0.0), right, channels)  # NaN stays NaN


@torch.no_grad()
def turned(bits: Bits, bounds: Sequence[Tensor]) -> float:
    """Return the largest |float| whose sign is not that of its bit, relative to its channel's largest in bounds[0].

    The floats are the tensors `bounds`, with channels last. A bit is right if the range of its entry in `bounds`
    contains a float of its sign; for a wrong bit, the float nearest to 0 counts. 0 if all bits are right; infinite if
    shapes differ, or if not the same rows of `bits` and bounds[0] have NaN.
    """
    signs = bits.floats().double()
    if signs.shape != bounds[0].shape:
        return float("inf")
    low, high = _range(bounds)
    is_nan = bounds[0].isnan().any(-1, keepdim=True).expand(signs.shape)
    beyond = torch.where(signs > 0, -high, low).clamp(min=_SMALLEST)
    beyond = torch.where(torch.where(signs > 0, high < 0, low >= 0), beyond, 0.0)
    beyond = torch.where(is_nan, 0.0, beyond)
    return _by_largest(torch.where(is_nan != signs.isnan(), torch.nan, beyond), bounds[0].double(), -1)


def bits_of(floats: Tensor) -> Bits:
    """Return the signs of floats (…, channels) as `Bits`: +1 for entries ≥ 0; `nan` marks rows or pixels with a NaN."""
    channels = floats.shape[-1]
    signs = torch.nn.functional.pad((floats >= 0).long(), (0, -channels % 64)).unflatten(-1, (-1, 64))
    nan = floats.isnan().any(-1)
    return Bits((signs << torch.arange(64)).sum(-1), nan.to(torch.uint8) if bool(nan.any()) else None, channels)


def _range(bounds: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    stacked = torch.stack([bound.double() for bound in bounds])
    return stacked.amin(0), stacked.amax(0)


def _by_largest(beyond: Tensor, right: Tensor, channels: int | None) -> float:
    """Return the largest of `beyond`, relative to the largest |right| of its channel; infinite for NaN."""
    dims = [dim for dim in range(right.dim()) if channels is None or dim != channels % right.dim()]
    sizes = right.abs().nan_to_num(0.0)
    largest = sizes.amax(dims, keepdim=True) if dims else sizes
    return float(torch.where(beyond == 0, 0.0, beyond / largest).nan_to_num(float("inf")).max())
