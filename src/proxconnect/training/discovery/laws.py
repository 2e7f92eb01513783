"""The laws that a candidate's pair must keep before it trains."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

from proxconnect.pairs import AnyPair, Heuristic, Pair, resolve
from proxconnect.theory import decompose
from proxconnect.training.study.rows import Configuration

_INSIDE = torch.linspace(-1, 1, 201, dtype=torch.float64)


def refusal(configuration: Configuration) -> str | None:
    """Return why the pairs of a configuration may not train, in words; None if they may.

    A legitimate pair must pass `theory.decompose` at the first and the last μ of its course, and have a B that is not 0
    for all |x| <= 1 at the first. Heuristics may train. Pairs by MODULE:NAME are not looked at.
    """
    courses = _inside(configuration, "model", "sharpening")
    for part, name in _names(configuration):
        try:
            pair = resolve(name)
        except ValueError as error:
            return str(error)
        reason = _broken(pair, _inside(courses, part)) if isinstance(pair, Pair) else None
        if reason:
            return f"{name} {reason}"
    return None


def heuristics(configuration: Configuration) -> list[str]:
    """Return the pairs of a configuration that are heuristics, as "bnn+ (activations)"."""
    return [f"{name} ({part})" for part, name in _names(configuration) if isinstance(resolve(name), Heuristic)]


def _names(configuration: Configuration) -> list[tuple[str, str]]:
    """Return ("weights" or "activations", the name of the pair) for each pair of a configuration that has a name."""
    binary, found = _inside(configuration, "model", "binary"), []
    for part in ("weights", "activations"):
        names = binary.get(part)
        found += [(part, name) for name in (names.values() if isinstance(names, Mapping) else [names])]
    return [(part, name) for part, name in found if isinstance(name, str) and ":" not in name]


def _inside(content: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """Return the mapping at a path of keys; an empty one if another thing is there, which a run refuses itself."""
    found: Any = content
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def ends(pair: AnyPair, course: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the first and the last μ of `pair` on a course, options as of `Course`; None without a μ.

    TypeError, ValueError or OverflowError for an option that is no number that a float can hold.
    """
    domain = pair.sharpness
    if domain is None:
        return None
    start, end = course.get("start"), course.get("end")
    rests = course.get("shape") == "constant" or (domain.fixed is not None and start is None and end is None)
    first = float(domain.unmoved if start is None and rests else domain.start if start is None else start)
    return first, first if rests else float(domain.end if end is None else end)


def _broken(pair: Pair, course: Mapping[str, Any]) -> str | None:
    """Return what is wrong with `pair` on its course, in words; None if nothing is."""
    try:
        moved = ends(pair, course)
    except (TypeError, ValueError, OverflowError):
        return f"has a start or an end of μ that is no number: {dict(course)}"
    if pair.sharpness is None or moved is None:
        return _dead(pair, None) or _illegitimate(pair, None)
    outside = [mu for mu in moved if not pair.sharpness.contains(mu)]
    if outside:
        return f"allows no μ = {outside[0]:g}"
    return _dead(pair, moved[0]) or next(filter(None, (_illegitimate(pair, mu) for mu in moved)), None)


@cache
def _dead(pair: Pair, mu: float | None) -> str | None:
    """Return that nothing trains if B is 0 for all |x| <= 1 at the first μ; None if it is not."""
    where = "" if mu is None else f" at its first μ = {mu:g}"
    return None if pair.backward(_INSIDE, mu).any() else f"has B = 0 for all |x| <= 1{where}, so that nothing trains"


@cache
def _illegitimate(pair: Pair, mu: float | None) -> str | None:
    found = decompose(pair, mu=mu)
    where = "" if mu is None else f" at μ = {mu:g}"
    return None if found.legitimate else f"is not legitimate{where}: {found.reason}"
