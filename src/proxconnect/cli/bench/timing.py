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
    """Time several functions side by side, in rounds that call each of them.

    In each round, the first call of a function is not timed: it fills the caches as if nothing else ran.

    Args:
        works: the functions by name; they take no arguments.
        rounds: the number of rounds.
        turn: about how many seconds the timed calls of a function take in a round. By default it is one call.

    Returns:
        By name, the seconds of one call, one value per round.
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
    """Call several measurements in rounds, with the garbage collector off.

    Each round calls all measurements and starts with another one, so that disturbances of the machine meet all alike.

    Args:
        measurements: the functions by name; they take no arguments.
        rounds: the number of rounds.

    Returns:
        By name, the values that the function returned, one per round.
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
    """Return the quotient of each round, so that a disturbance of a whole round cancels.

    Args:
        numerators: one value per round.
        denominators: one value for each of the same rounds.
    """
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
