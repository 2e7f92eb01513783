"""The environment limits which instruction sets the kernels use."""

from collections.abc import Callable, Iterator

import pytest

from proxconnect import kernels
from proxconnect.kernels import library
from proxconnect.kernels.library import NUMBERS, VARIABLE

pytestmark = pytest.mark.skipif(not kernels.is_built(), reason="the kernels were not built")

LIBRARY = library.library()
SETS = tuple(name for name, number in NUMBERS.items() if LIBRARY is not None and LIBRARY.px_supports(number))
"""Those of the machine, even if the variable is set for the tests too."""


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets the variable, as for a process that has not read it yet."""

    def set_to(name: str) -> None:
        monkeypatch.setenv(VARIABLE, name)
        library.instruction_sets.cache_clear()

    yield set_to
    library.instruction_sets.cache_clear()


@pytest.mark.parametrize("name", SETS)
def test_better_sets_are_not_used(name: str, limit: Callable[[str], None]) -> None:
    limit(name)
    assert kernels.instruction_sets() == SETS[: SETS.index(name) + 1]
    assert library.loaded(None)[1] == NUMBERS[name]
    for better in SETS[SETS.index(name) + 1 :]:
        with pytest.raises(ValueError, match="this machine runs"):
            library.loaded(better)


@pytest.mark.parametrize("name", ["AVX-512", "vax"])
def test_a_set_that_the_machine_lacks_is_refused(name: str, limit: Callable[[str], None]) -> None:
    limit(name)
    with pytest.raises(ValueError, match=f"{VARIABLE} is '{name}', and this machine runs {', '.join(SETS)}: set it"):
        kernels.Finish((), 8)


def test_an_empty_variable_limits_nothing(limit: Callable[[str], None]) -> None:
    limit("")
    assert kernels.instruction_sets() == SETS


def test_kernels_of_floats_follow(limit: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that would run every set of x86."""
    monkeypatch.setattr(LIBRARY, "px_supports", lambda number: number != NUMBERS["neon"])
    limit("amx")
    assert kernels.has_float_kernels()
    limit("avx2")
    assert kernels.has_float_kernels()
    limit("portable")
    assert not kernels.has_float_kernels()
