"""Random numbers as a pure function of counters, the same in any process, by splitmix64 (Steele 2014)."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


class Purpose(IntEnum):
    """An enumeration of uses of random numbers: for each, `hashed` gives different numbers for the same counters."""

    SPLIT = 1
    ORDER = 2
    BLOCKS = 3
    FLIP_AND_CROP = 4
    TRANSFORM = 5
    MIXING = 6


def hashed(purpose: Purpose, *counters: int | Tensor) -> Tensor:
    """Return pseudo-random int64 values, a function of `purpose` and the broadcast integers `counters` alone."""
    state = _scrambled(torch.tensor(int(purpose)))
    for counter in counters:
        state = _scrambled(state + counter)
    return state


def uniform(purpose: Purpose, *counters: int | Tensor) -> Tensor:
    """Return pseudo-random float64 values in [0, 1): a function of the arguments, as for `hashed`."""
    return _shifted(hashed(purpose, *counters), 11).double() * 2**-53


def seeds(purpose: Purpose, *counters: int | Tensor) -> Tensor:
    """Return seeds for random generators, int64 and at least 0: a function of the arguments, as for `hashed`."""
    return _shifted(hashed(purpose, *counters), 1)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, numpy and torch (CPU) within the context; then restore their states."""
    states = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    random.seed(seed)
    np.random.seed(seed % (1 << 32))
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every device too
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.default_generator.set_state(states[2])


def _scrambled(state: Tensor) -> Tensor:
    state = state + (0x9E3779B97F4A7C15 - 2**64)
    state = (state ^ _shifted(state, 30)) * (0xBF58476D1CE4E5B9 - 2**64)
    state = (state ^ _shifted(state, 27)) * (0x94D049BB133111EB - 2**64)
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, places: int) -> Tensor:
    """Shift right and fill with zeros; torch's shift copies the sign."""
    return (state >> places) & ((1 << (64 - places)) - 1)
