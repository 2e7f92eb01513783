"""Covering sets hold what they promise and marked tests run no other cases; looped tests go through all values."""

from collections.abc import Mapping, Sequence
from itertools import combinations, product

import pytest

from covering import covering
from looped import looped

CASES = [dict(zip("pqrs", values, strict=True)) for values in product("abcd", "ef", "ghi", "jk")]


def occurring(cases: Sequence[Mapping[str, str]], strength: int) -> set[object]:
    return {combination for case in cases for combination in combinations(case.items(), strength)}


@pytest.mark.parametrize(("strength", "most"), [(1, 4), (2, 14), (3, 30)])
def test_every_combination_occurs_in_few_cases(strength: int, most: int) -> None:
    chosen = [CASES[place] for place in covering(CASES, strength)]
    assert occurring(chosen, strength) == occurring(CASES, strength)
    assert len(chosen) <= most


def test_combinations_that_no_case_has_are_not_missed() -> None:
    cases = [case for case in CASES if (case["p"], case["q"]) != ("a", "e")]
    chosen = [cases[place] for place in covering(cases)]
    assert occurring(chosen, 2) == occurring(cases, 2)


def test_parameters_that_interact_occur_together_and_all_values_of_the_others() -> None:
    chosen = [CASES[place] for place in covering(CASES, together=("p q",))]
    assert {(case["p"], case["q"]) for case in chosen} == set(product("abcd", "ef"))
    assert occurring(chosen, 1) == occurring(CASES, 1)
    assert len(chosen) == 8


def test_parameters_that_no_case_has() -> None:
    for wrong in ({"strength": 5}, {"together": ("p t",)}):
        with pytest.raises(ValueError, match=r"the parameters are .*: name some of them"):
            covering(CASES, **wrong)


@pytest.mark.covering
@pytest.mark.parametrize("first", "abcd")
@pytest.mark.parametrize("second", "ef")
@pytest.mark.parametrize("third", [[1], [2], [3]])
def test_a_marked_test_runs_its_covering_set(
    first: str, second: str, third: list[int], request: pytest.FixtureRequest
) -> None:
    name = request.node.originalname
    cases = [item for item in request.session.items if getattr(item, "originalname", None) == name]
    if request.config.getoption("full"):
        assert len(cases) == 24
    else:
        assert len(cases) <= 15


seen: list[tuple[str, int]] = []


@looped(number=[1, 2])
@pytest.mark.parametrize("letter", "ab")
def test_a_looped_test_is_one_case(letter: str, number: int) -> None:
    seen.append((letter, number))


def test_a_looped_test_goes_through_all_values_or_takes_the_given_ones() -> None:
    before = list(seen)
    test_a_looped_test_is_one_case(letter="c")
    test_a_looped_test_is_one_case(letter="d", number=3)
    assert seen[len(before) :] == [("c", 1), ("c", 2), ("d", 3)]


def test_a_failure_names_the_values() -> None:
    @looped(number=[1, 2])
    def fails_for_2(number: int) -> None:
        assert number == 1

    with pytest.raises(AssertionError) as failure:
        fails_for_2()
    assert failure.value.__notes__ == ["with {'number': 2}"]
