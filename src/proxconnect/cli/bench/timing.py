"""Seconds of several works, taken side by side."""

import gc
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import ceil
from timeit import timeit
from typing import Self, TypeVar

import torch

Work = Callable[[], object]

_T = TypeVar("_T")


@dataclass(frozen=True)
class Spread:
    """The lower quartile, the median and the upper quartile of the values of several rounds."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Return the quartiles of the values; one value is all three. statistics.StatisticsError if there are none."""
        several = values if len(values) > 1 else [*values, *values]
        return cls(*statistics.quantiles(several, n=4, method="inclusive"))


def interleaved(works: Mapping[str, Work], rounds: int, turn: float = 0.0) -> dict[str, tuple[float, ...]]:
    """Time several functions, by name, in rounds that call each; return the seconds of one call, one value per round.

    In each round, the first call of a function is not timed: it fills the caches as if nothing else ran. Then it is
    timed for about `turn` seconds, by default for one call.
    """
    calls = {}
    for name, work in works.items():
        work()  # the first call may compile and start threads
        calls[name] = max(1, ceil(turn / max(timeit(work, number=1), 1e-7)))

    def seconds(name: str) -> float:
        works[name]()
        return timeit(works[name], number=calls[name]) / calls[name]

    return in_turn({name: partial(seconds, name) for name in works}, rounds)


def in_turn(measurements: Mapping[str, Callable[[], _T]], rounds: int) -> dict[str, tuple[_T, ...]]:
    """Call all `measurements` once per round, without garbage collection, and return their values by name and round.

    Each round starts with the next one, so that disturbances of the machine meet all alike.
    """
    names = list(measurements)
    found: dict[str, list[_T]] = {name: [] for name in names}
    collects = gc.isenabled()
    gc.disable()
    try:
        for number in range(rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                found[name].append(measurements[name]())
    finally:
        if collects:
            gc.enable()
    return {name: tuple(values) for name, values in found.items()}


def quotients(numerators: Sequence[float], denominators: Sequence[float]) -> tuple[float, ...]:
    """Divide the values of the same rounds, one by one, so that a disturbance of a whole round cancels."""
    return tuple(a / b for a, b in zip(numerators, denominators, strict=True))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch compute with `count` threads in the context; the number from before comes back after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
