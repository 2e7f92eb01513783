"""Cases that only `make test-full` runs, since others check the same behaviour."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def thorough_but(fast: Collection[Any], values: Iterable[Any]) -> list[Any]:
    """Return the values of a parameter, those outside `fast` marked as thorough; ValueError if `fast` has others."""
    found = list(values)
    unknown = [value for value in fast if value not in found]
    if unknown:
        raise ValueError(f"{unknown} are no values of this parameter: {found}")
    marked = [value for value in found if value not in fast]
    return [pytest.param(*_several(value), marks=pytest.mark.thorough) if value in marked else value for value in found]


def _several(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
