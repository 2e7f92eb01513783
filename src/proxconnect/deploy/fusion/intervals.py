"""Signs of functions of integer sums as intervals: what stands between two products of signs needs no floats.

Batch norm and sign make a threshold for each channel, a bound of an interval, whichever the sign of gamma. Gelu and its
kin, which are -0 far below 0, make an interval with two bounds, and more of them where they come to -0 by rounding.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from proxconnect.kernels.accumulator import Accumulator
from proxconnect.kernels.epilogue import Signs

_MOST_INTERVALS = 8
"""Those of a channel, beyond which floats are faster."""

_AT_ONCE = 1 << 16
"""Values of a function that are held at once."""


def signs_of(
    functions: Sequence[Callable[..., Tensor]], channels: int, entries: int, scale: Tensor | None, bias: Tensor | None,
    accumulator: Accumulator | None, axis: int,
) -> Signs | None:  # fmt: skip
    """Return where the functions, one after another, make a sum positive, found by running them on every sum.

    A sum is of `entries` signs, as its accumulator holds it, times `scale`, plus `bias`. The functions take its channel
    in dimension `axis`: 1 of an image, or -1. None if a value is NaN, and if a channel takes too many intervals.
    """
    if accumulator is not None and accumulator.overflow == "cyclic":  # its values are no integers
        return None
    low, high = -entries, entries
    if accumulator is not None:
        bound = 1 << (accumulator.bits - 1)
        low, high = max(low, -bound), min(high, bound - 1)
    changes = _Changes(low, channels)
    step = max(_AT_ONCE // channels, 1)
    for first in range(low, high + 1, step):
        sums = torch.arange(first, min(first + step, high + 1), dtype=torch.float32)
        values = _values(functions, sums, channels, scale, bias, axis)
        if bool(values.isnan().any()):
            return None
        changes.add(values >= 0)
    return changes.intervals()


class _Changes:
    """Where the sign of a function of sums changes, for each channel; added in parts, lest all be held at once."""

    def __init__(self, low: int, channels: int) -> None:
        self.sum, self.channels = low, channels
        self.first = self.last = torch.empty(0)
        self.places: list[list[int]] = [[] for _ in range(channels)]

    def add(self, bits: Tensor) -> None:
        """Add the signs at the next sums, (sums, channels)."""
        if not len(self.first):
            self.first = self.last = bits[0]
        before = torch.cat([self.last[None], bits[:-1]])
        for at, channel in (bits != before).nonzero().tolist():
            self.places[channel].append(self.sum + at)
        self.last, self.sum = bits[-1], self.sum + len(bits)

    def intervals(self) -> Signs | None:
        """Return the intervals, each bounded by two changes of a channel; None if these are too many."""
        count = max(-(-max(map(len, self.places)) // 2), 1)
        if count > _MOST_INTERVALS:
            return None
        # Beyond the last sum, where no change is, an interval is empty.
        bounds = torch.tensor([[*places, *[self.sum] * (2 * count - len(places))] for places in self.places])
        low, end = bounds[:, ::2].T, bounds[:, 1::2].T
        return Signs(low.to(torch.int32).contiguous(), (end - low).to(torch.int32).contiguous(), self.first)


def _values(
    functions: Sequence[Callable[..., Tensor]], sums: Tensor, channels: int, scale: Tensor | None, bias: Tensor | None,
    axis: int,
) -> Tensor:  # fmt: skip
    """Return what the functions make of each sum in each channel, (sums, channels)."""
    values = sums[:, None].expand(-1, channels)
    values = values.clone() if scale is None else values * scale.reshape(1, -1)
    if bias is not None:
        values = values + bias
    if axis != -1:
        values = values[:, :, None, None]
    for function in functions:
        values = function(values)
    return values.reshape(len(sums), channels)
