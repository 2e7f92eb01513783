"""Signs of functions of integer sums as intervals: what stands between two products of signs needs no floats.

Batch norm and sign make a threshold for each channel, a bound of an interval, whichever the sign of gamma; gelu and its
kin, which are -0 far below 0, make an interval with two bounds.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from proxconnect.kernels.epilogue import Signs
from proxconnect.layers import Accumulator

_AT_ONCE = 1 << 22
"""Entries of the table of a function that are made at once."""


def signs_of(
    functions: Sequence[Callable[..., Tensor]], channels: int, entries: int, scale: Tensor | None, bias: Tensor | None,
    accumulator: Accumulator | None, axis: int,
) -> Signs | None:  # fmt: skip
    """Where the functions, one after another, make a sum positive, found by running them on every sum.

    A sum is of `entries` signs, as its accumulator holds it, times `scale`, plus `bias`; the functions take its channel
    in dimension 1 of an image, or where `axis` is -1 in the last one. None where some channel's positive sums, or its
    negative ones, are no interval, or one is NaN.
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
    """From (sums, channels) bits, of which the first sum is `low`."""
    changes = bits[1:] != bits[:-1]
    counts = changes.sum(0)
    if bool((counts > 2).any()):
        return None
    count = len(bits)
    flip = bits[0]  # where the first sum is positive, the interval is of the negative ones
    places = torch.arange(1, count, dtype=torch.int32)[:, None]
    first = torch.where(changes, places, count).amin(0) if count > 1 else torch.full_like(counts, count)
    last = torch.where(changes, places, 0).amax(0) if count > 1 else torch.zeros_like(counts)
    end = torch.where(counts == 2, last, count)
    width = torch.where(counts == 0, 0, end - first)
    return Signs((first + low).to(torch.int32), width.to(torch.int32), flip)
