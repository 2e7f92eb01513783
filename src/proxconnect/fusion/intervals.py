"""Signs of functions of integer sums as intervals: what stands between two products of signs needs no floats.

Batch norm and sign make a threshold for each channel, a bound of an interval, whichever the sign of gamma. Gelu and its
kin, which are -0 far below 0, make an interval with two bounds, and more of them where they come to -0 by rounding.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from proxconnect.kernels.epilogue import Signs
from proxconnect.layers import Accumulator

_MOST_INTERVALS = 8
"""Those of a channel, beyond which floats are faster."""

_AT_ONCE = 1 << 22
"""Entries of the table of a function that are made at once."""


def signs_of(
    functions: Sequence[Callable[..., Tensor]], channels: int, entries: int, scale: Tensor | None, bias: Tensor | None,
    accumulator: Accumulator | None, axis: int,
) -> Signs | None:  # fmt: skip
    """Where the functions, one after another, make a sum positive, found by running them on every sum.

    A sum is of `entries` signs, as its accumulator holds it, times `scale`, plus `bias`; the functions take its channel
    in dimension 1 of an image, or where `axis` is -1 in the last one. None where one is NaN or where a channel takes too
    many intervals.
    """
    if accumulator is not None and accumulator.overflow == "cyclic":  # its values are no integers
        return None
    low, high = -entries, entries
    if accumulator is not None:
        bound = 1 << (accumulator.bits - 1)
        low, high = max(low, -bound), min(high, bound - 1)
    bits = []
    step = max(_AT_ONCE // channels, 1)
    for first in range(low, high + 1, step):
        sums = torch.arange(first, min(first + step, high + 1), dtype=torch.float32)
        values = _values(functions, sums, channels, scale, bias, axis)
        if bool(values.isnan().any()):
            return None
        bits.append(values >= 0)
    return _intervals(torch.cat(bits), low)


def _values(
    functions: Sequence[Callable[..., Tensor]], sums: Tensor, channels: int, scale: Tensor | None, bias: Tensor | None,
    axis: int,
) -> Tensor:  # fmt: skip
    """(sums, channels): what the functions make of each sum in each channel."""
    values = sums[:, None].expand(-1, channels)
    values = values.clone() if scale is None else values * scale.reshape(1, -1)
    if bias is not None:
        values = values + bias
    if axis != -1:
        values = values[:, :, None, None]
    for function in functions:
        values = function(values)
    return values.reshape(len(sums), channels)


def _intervals(bits: Tensor, low: int) -> Signs | None:
    """From (sums, channels) bits, of which the first sum is `low`: two changes of a channel bound an interval."""
    count = len(bits)
    changed = (bits[1:] != bits[:-1]).cumsum(0, dtype=torch.int32)  # how often, up to each sum
    most = int(changed[-1].max()) if count > 1 else 0
    intervals = max(-(-most // 2), 1)
    if intervals > _MOST_INTERVALS:
        return None
    changes = torch.stack(
        [(changed < k).sum(0) + 1 for k in range(1, 2 * intervals + 1)]
    )  # `count` where there is none
    first, end = changes[::2].clamp_max(count), changes[1::2].clamp_max(count)
    return Signs((first + low).to(torch.int32), (end - first).to(torch.int32), bits[0])
