"""Glob patterns on qualified layer names: what they choose, and errors for those that choose nothing."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase

from proxconnect.conversion.eligibility import WeightLayer
from proxconnect.pairs import AnyPair, resolve

PairChoice = str | AnyPair | None | Mapping[str, str | AnyPair | None]
"""A pair for all layers, or by glob pattern on their names, first match first; None leaves float."""

CATCH_ALL = "*"


def matches(layer: WeightLayer, pattern: str) -> bool:
    """Whether the glob `pattern` (`*` crosses dots) fits one of the layer's names, case and all."""
    return any(fnmatchcase(name, pattern) for name in layer.names)


def first_match(layer: WeightLayer, patterns: Iterable[str]) -> str | None:
    """The first of `patterns` that fits the layer."""
    return next((pattern for pattern in patterns if matches(layer, pattern)), None)


def require_match(
    pattern: str, layers: list[WeightLayer], argument: str, words: tuple[str, ...] = ()
) -> list[WeightLayer]:
    """The layers that `pattern` fits; ValueError with near names where there is none, naming the `argument`.

    `words` are further words that the argument takes.
    """
    if not isinstance(pattern, str):
        raise TypeError(f"{argument}: a pattern is a string, a glob on layer names; got {type(pattern).__name__}")
    found = [layer for layer in layers if matches(layer, pattern)]
    if not found:
        hint = _hint(pattern, layers, words)
        raise ValueError(f"{argument}: the pattern {pattern!r} fits no layer with a weight{hint}")
    return found


def resolve_choice(choice: PairChoice, layers: list[WeightLayer], argument: str) -> dict[str, AnyPair | None]:
    """The pairs by pattern, after a check that each pair is known and each pattern chooses a layer that can be binary.

    ValueError for an unknown pair and for a pattern that chooses none; TypeError for anything that is no pair.
    """
    if not isinstance(choice, Mapping):
        return {CATCH_ALL: None if choice is None else resolve(choice)}
    if not choice:
        raise ValueError(f"{argument}: the mapping is empty; pass a pair, or patterns such as {{'layer1.*': 'bnn++'}}")
    pairs: dict[str, AnyPair | None] = {}
    for pattern, pair in choice.items():
        found = require_match(pattern, layers, argument)
        pairs[pattern] = None if pair is None else resolve(pair)
        if pair is not None and pattern != CATCH_ALL and not any(layer.eligible for layer in found):
            first = found[0]
            raise ValueError(
                f"{argument}: {pattern!r} fits only layers that stay float: {first.name}: {first.obstacle}"
            )
    return pairs


def _hint(pattern: str, layers: list[WeightLayer], words: tuple[str, ...]) -> str:
    names = [*words, *(name for layer in layers for name in layer.names)]
    inside = pattern.rstrip(".*") + "."
    if any(name.startswith(inside) for name in names):
        return f": did you mean '{inside}*'?"
    near = get_close_matches(pattern, names, n=3, cutoff=0.3) or names[:3]
    return f": near names are {', '.join(map(repr, near))}" if near else ": it has none"
