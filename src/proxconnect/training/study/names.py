"""Names that a user gives, looked up among the known ones."""

from collections.abc import Iterable
from difflib import get_close_matches


class GridError(ValueError):
    """A grid file or a request about it is wrong; the message is one line that says where and what to do."""


def require_known(name: str, known: Iterable[str], what: str) -> None:
    """Raise GridError with close matches if `name` is not in `known`; `what` says its kind and its place."""
    names = list(known)
    if name not in names:
        near = get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(names) or 'none'}"
        raise GridError(f"unknown {what} {name!r}: {hint}")
