"""Covering sets: a few cases of a test in which every pair of values of two parameters still occurs."""

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from random import Random

import pytest


def covering(
    cases: Sequence[Mapping[str, Hashable]], strength: int = 2, together: Sequence[str] | None = None
) -> set[int]:
    """Return the places of cases in which every combination of values of `strength` parameters occurs.

    Take the case with the most combinations that are still missing, again and again. Among equals take the first of a
    fixed random order, so that the other parameters vary.

    Args:
        cases: The values of each case, by parameter.
        strength: How many parameters are taken together.
        together: The parameters that interact, as "kind scale"; of the others every value occurs. Replaces `strength`.
    """
    names = list(cases[0])
    groups = list(combinations(names, strength)) if together is None else [tuple(group.split()) for group in together]
    if not groups or not {name for group in groups for name in group} <= set(names):
        raise ValueError(f"the parameters are {names}: name some of them in `together`, or take a lower strength")
    groups += [(name,) for name in names]
    numbers: dict[tuple[tuple[str, Hashable], ...], int] = {}
    held = [0] * len(cases)
    for place, case in enumerate(cases):
        for group in groups:
            combination = tuple((name, case[name]) for name in group)
            held[place] |= 1 << numbers.setdefault(combination, len(numbers))
    order = Random(0).sample(range(len(cases)), len(cases))
    missing, chosen = (1 << len(numbers)) - 1, set[int]()
    while missing:
        best = max(order, key=lambda place: (held[place] & missing).bit_count())
        missing &= ~held[best]
        chosen.add(best)
    return chosen


def left_out(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the cases outside the covering sets of the tests marked with `covering`."""
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("covering"):
            tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    return [item for name, cases in tests.items() for item in _left_out_of_one(name, cases)]


def _left_out_of_one(name: str, items: Sequence[pytest.Item]) -> list[pytest.Item]:
    marker = items[0].get_closest_marker("covering")
    assert marker is not None
    parameters = [item.callspec.params for item in items]  # type: ignore[attr-defined]  # a parametrized function
    cases = [{name: _identity(value) for name, value in values.items()} for values in parameters]
    try:
        chosen = covering(cases, *marker.args, **marker.kwargs)
    except ValueError as error:
        raise pytest.UsageError(f"the mark covering of {name}: {error}") from error
    return [item for place, item in enumerate(items) if place not in chosen]


def _identity(value: object) -> Hashable:
    try:
        hash(value)
    except TypeError:
        return id(value)
    return type(value), value
