"""Find the intervals of integer sums whose sign is +1 after the functions between two binary layers.

Batch norm and sign give one threshold for each channel. GELU and similar functions, which round to -0 far below 0, give
intervals with two bounds, or several intervals.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from proxconnect.kernels.accumulator import Accumulator
from proxconnect.kernels.epilogue import Signs

_MOST_INTERVALS = 8
"""The most intervals of a channel; with more, floats are faster."""

_AT_ONCE = 1 << 16
"""The number of function values that are in memory at a time."""


def signs_of(
    functions: Sequence[Callable[..., Tensor]], channels: int, entries: int, scale: Tensor | None, bias: Tensor | None,
    accumulator: Accumulator | None, axis: int,
) -> Signs | None:  # fmt: skip
    """Return the intervals of integer sums that the functions, one after another, map to values ≥ 0.

    It runs the functions on every sum of `entries` signs that the accumulator can hold, times `scale`, plus `bias`.
    Channels are in dimension `axis` of their inputs: 1 for images, or -1. None if a value is NaN, if a channel has too
    many intervals, or if the accumulator is cyclic.
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
    """The sums at which the sign of a function changes, for each channel, found in parts to save memory."""

    def __init__(self, low: int, channels: int) -> None:
        self.sum, self.channels = low, channels
        self.first = self.last = torch.empty(0)
        self.places: list[list[int]] = [[] for _ in range(channels)]

    def add(self, bits: Tensor) -> None:
        """Add the signs at the next sums, True for +1: bool (sums, channels)."""
        if not len(self.first):
            self.first = self.last = bits[0]
        before = torch.cat([self.last[None], bits[:-1]])
        for at, channel in (bits != before).nonzero().tolist():
            self.places[channel].append(self.sum + at)
        self.last, self.sum = bits[-1], self.sum + len(bits)

    def intervals(self) -> Signs | None:
        """Return the intervals between changes of each channel; None if there are too many."""
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
    """Return the values of the functions for each sum in each channel, (sums, channels)."""
    values = sums[:, None].expand(-1, channels)
    values = values.clone() if scale is None else values * scale.reshape(1, -1)
    if bias is not None:
        values = values + bias
    if axis != -1:
        values = values[:, :, None, None]
    for function in functions:
        values = function(values)
    return values.reshape(len(sums), channels)
