"""Seconds of several works, taken side by side."""

import gc
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import ceil
from time import perf_counter
from typing import Self, TypeVar

import torch

Work = Callable[[], object]

_T = TypeVar("_T")


@dataclass(frozen=True)
class Spread:
    """The quartiles of what several rounds gave."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Those of `values`, at least one."""
        several = values if len(values) > 1 else [*values, *values]
        return cls(*statistics.quantiles(several, n=4, method="inclusive"))


def interleaved(works: Mapping[str, Work], rounds: int, turn: float = 0.0) -> dict[str, tuple[float, ...]]:
    """The seconds that a call of each work takes, one value a round.

    A turn begins with a call that is not timed, after which the caches hold what they would if nothing else ran, and
    goes on for about `turn` seconds, or for one call.
    """
    calls = {name: _calls(work, turn) for name, work in works.items()}

    def seconds(name: str) -> float:
        works[name]()
        return _seconds(works[name], calls[name]) / calls[name]

    return in_turn({name: partial(seconds, name) for name in works}, rounds)


def in_turn(measurements: Mapping[str, Callable[[], _T]], rounds: int) -> dict[str, tuple[_T, ...]]:
    """What each measurement returns, one value a round.

    In every round each has its turn, each time another one first, so that whatever else the machine does meets all
    alike.
    """
    names = list(measurements)
    found: dict[str, list[_T]] = {name: [] for name in names}
    with _collector_off():
        for number in range(rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                found[name].append(measurements[name]())
    return {name: tuple(values) for name, values in found.items()}


def quotients(numerators: Sequence[float], denominators: Sequence[float]) -> tuple[float, ...]:
    """Round by round, so that what slowed a whole round cancels."""
    return tuple(a / b for a, b in zip(numerators, denominators, strict=True))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Have torch compute with `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _calls(work: Work, turn: float) -> int:
    """How many calls last about `turn` seconds, after a first one, which may compile, allocate and start threads."""
    work()
    return max(1, ceil(turn / max(_seconds(work, 1), 1e-7)))


def _seconds(work: Work, calls: int) -> float:
    start = perf_counter()
    for _ in range(calls):
        work()
    return perf_counter() - start


@contextmanager
def _collector_off() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
