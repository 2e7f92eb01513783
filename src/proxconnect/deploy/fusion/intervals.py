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
        low, high = max(low, -accumulator.bound), min(high, accumulator.bound - 1)
    changes: list[Tensor] = []
    first = last = torch.empty(0)
    step = max(_AT_ONCE // channels, 1)
    for start in range(low, high + 1, step):
        sums = torch.arange(start, min(start + step, high + 1), dtype=torch.float32)
        values = sums[:, None].expand(-1, channels)
        values = values.clone() if scale is None else values * scale.reshape(1, -1)
        values = values if bias is None else values + bias
        values = values if axis == -1 else values[:, :, None, None]
        for function in functions:
            values = function(values)
        if bool(values.isnan().any()):
            return None
        bits = values.reshape(-1, channels) >= 0
        if not changes:
            first = last = bits[0]
        changes.append((bits != torch.cat([last[None], bits[:-1]])).nonzero() + torch.tensor([start, 0]))
        last = bits[-1]
    return _between(torch.cat(changes), first, high + 1)


def _between(changes: Tensor, first: Tensor, end: int) -> Signs | None:
    """Return the intervals between changes of sign, (sum, channel) in order; None if a channel has too many.

    `first` is True for channels whose sign is +1 at the lowest sum; `end` is above the highest sum.
    """
    sums, channels = changes[changes[:, 1].argsort(stable=True)].unbind(1)
    counts = channels.bincount(minlength=len(first))
    most = max(-(-int(counts.max()) // 2), 1)
    if most > _MOST_INTERVALS:
        return None
    places = torch.arange(len(sums)) - (counts.cumsum(0) - counts)[channels]
    bounds = torch.full((2 * most, len(first)), end, dtype=torch.int32)  # an interval from `end` to `end` is empty
    bounds[places, channels] = sums.to(torch.int32)
    return Signs(bounds[::2].contiguous(), bounds[1::2] - bounds[::2], first)
