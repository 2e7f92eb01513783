"""Seeds of ours for libraries that take random numbers from global generators, which afterwards are as before."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def generators_restored() -> Iterator[None]:
    """Give Python's, numpy's and torch's CPU generator back the states they had before."""
    states = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.default_generator.set_state(states[2])


def reseed(seed: int) -> None:
    """Seed the three. `torch.manual_seed` would seed those of every device too."""
    random.seed(seed)
    np.random.seed(seed % (1 << 32))
    torch.default_generator.manual_seed(seed)
