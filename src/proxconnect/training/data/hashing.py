"""Random numbers that are a pure function of counters, whoever asks for them and when.

A generator has a state, which must be saved, and whose numbers depend on how many were taken before. A hash of (seed,
epoch, picture) has none: it is the same in any worker process, on any rank and after any interruption.
"""

from enum import IntEnum

import torch
from torch import Tensor


class Purpose(IntEnum):
    """What random numbers are for, so that equal counters give independent numbers for each."""

    SPLIT = 1
    ORDER = 2
    BLOCKS = 3
    FLIP_AND_CROP = 4
    TRANSFORM = 5
    MIXING = 6


def hashed(purpose: Purpose, *counters: int | Tensor) -> Tensor:
    """64 random bits, int64, for each entry of the broadcast `counters` (whole numbers, int64).

    Each counter in turn is added to the state, which splitmix64 then scrambles. Source: Steele, Lea and Flood 2014,
    Fast Splittable Pseudorandom Number Generators.
    """
    state = _scrambled(torch.tensor(int(purpose)))
    for counter in counters:
        state = _scrambled(state + counter)
    return state


def uniform(purpose: Purpose, *counters: int | Tensor) -> Tensor:
    """Float64 in [0, 1), as `hashed`."""
    return _shifted(hashed(purpose, *counters), 11).double() * 2**-53


def seeds(purpose: Purpose, *counters: int | Tensor) -> Tensor:
    """Seeds for generators that must be had: int64, not negative, as `hashed`."""
    return _shifted(hashed(purpose, *counters), 1)


def _scrambled(state: Tensor) -> Tensor:
    """A step of splitmix64, in int64 that wraps as uint64 does."""
    state = state + _signed(0x9E3779B97F4A7C15)
    state = (state ^ _shifted(state, 30)) * _signed(0xBF58476D1CE4E5B9)
    state = (state ^ _shifted(state, 27)) * _signed(0x94D049BB133111EB)
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, places: int) -> Tensor:
    """To the right, filled with zeros: torch's own shift copies the sign."""
    return (state >> places) & ((1 << (64 - places)) - 1)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word
