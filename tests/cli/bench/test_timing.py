"""The order of works, and the figures from their times."""

import gc
import statistics
import timeit
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxconnect.cli.bench import timing
from proxconnect.cli.bench.timing import Spread, interleaved, quotients


def test_every_round_has_every_work_another_one_first():
    calls: list[str] = []
    works = {name: lambda name=name: calls.append(name) for name in "abc"}
    times = interleaved(works, rounds=4)
    assert {name: len(taken) for name, taken in times.items()} == {"a": 4, "b": 4, "c": 4}
    rounds = "".join(calls)[len("aabbcc") :]  # what estimates the turns comes first
    assert rounds == "aabbcc" + "bbccaa" + "ccaabb" + "aabbcc"


def test_a_turn_is_many_calls_of_a_short_work(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(timing, "timeit", partial(timeit.timeit, timer=lambda: clock[0]))
    calls = {0.25: 0, 2.0: 0}

    def work(seconds: float) -> None:
        clock[0] += seconds
        calls[seconds] += 1

    times = interleaved({name: partial(work, name) for name in calls}, rounds=2, turn=1.0)
    assert times == {0.25: (0.25, 0.25), 2.0: (2.0, 2.0)}
    assert calls == {0.25: 2 + 2 * (1 + 4), 2.0: 2 + 2 * (1 + 1)}


def test_the_collector_is_on_again_whatever_happens():
    def failing():
        if len(calls) > 2:
            raise ZeroDivisionError
        calls.append(gc.isenabled())

    calls: list[bool] = []
    with pytest.raises(ZeroDivisionError):
        interleaved({"failing": failing}, rounds=3)
    assert calls == [True, False, False]
    assert gc.isenabled()


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=20))
def test_quartiles_are_in_order_around_the_median(values):
    spread = Spread.of(values)
    assert min(values) <= spread.low <= spread.median <= spread.high <= max(values)
    assert spread.median == statistics.median(values)


def test_quotients_are_by_round():
    assert quotients([2.0, 9.0], [1.0, 3.0]) == (2.0, 3.0)
