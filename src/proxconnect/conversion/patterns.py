"""The choice of layers by glob patterns on their qualified names: the pair of each, and those that stay float."""

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn

from proxconnect.conversion.eligibility import WeightLayer
from proxconnect.pairs import AnyPair, resolve

PairChoice = str | AnyPair | None | Mapping[str, str | AnyPair | None]
"""A pair for all layers, or pairs by glob pattern on names, of which the first match decides; None leaves float."""

Keep = str | Iterable[str] | Callable[[str, nn.Module], bool] | None
"""The layers that stay float: "edges", glob patterns (also with "edges" among them), a callable of name and module, or
none (None)."""


def first_match(layer: WeightLayer, patterns: Iterable[str]) -> str | None:
    """Return the first of the glob `patterns` that fits a name of the layer, or None; `*` crosses dots, case counts."""
    return next((glob for glob in patterns if any(fnmatchcase(name, glob) for name in layer.names)), None)


def require_match(
    pattern: str, layers: list[WeightLayer], argument: str, words: tuple[str, ...] = ()
) -> list[WeightLayer]:
    """Return the layers that the glob `pattern` fits; ValueError if there is none, TypeError unless it is a string.

    The message names `argument`, the user's argument that holds the pattern, and suggests names of layers or `words`,
    other values of that argument.
    """
    if not isinstance(pattern, str):
        raise TypeError(f"{argument}: a pattern is a string, a glob on layer names; got {type(pattern).__name__}")
    found = [layer for layer in layers if first_match(layer, [pattern]) is not None]
    if found:
        return found
    names = [*words, *(name for layer in layers for name in layer.names)]
    inside = pattern.rstrip(".*") + "."
    near = get_close_matches(pattern, names, n=3, cutoff=0.3) or names[:3]
    hint = f"near names are {', '.join(map(repr, near))}" if near else "it has none"
    if any(name.startswith(inside) for name in names):
        hint = f"did you mean '{inside}*'?"
    raise ValueError(f"{argument}: the pattern {pattern!r} fits no layer with a weight: {hint}")


def resolve_choice(choice: PairChoice, layers: list[WeightLayer], argument: str) -> dict[str, AnyPair | None]:
    """Return `choice` as a mapping from glob patterns to pairs, or to None for float; a single pair gets "*".

    ValueError if a pair is unknown, the mapping is empty, a pattern fits none of `layers`, or a pattern other than "*"
    gives a pair only to layers that cannot be binary. The message names `argument`: "weights" or "activations".
    """
    if not isinstance(choice, Mapping):
        return {"*": None if choice is None else resolve(choice)}
    if not choice:
        raise ValueError(f"{argument}: the mapping is empty; pass a pair, or patterns such as {{'layer1.*': 'bnn++'}}")
    pairs: dict[str, AnyPair | None] = {}
    for pattern, pair in choice.items():
        found = require_match(pattern, layers, argument)
        pairs[pattern] = None if pair is None else resolve(pair)
        if pair is not None and pattern != "*" and not any(not layer.obstacle for layer in found):
            obstacle = f"{found[0].name}: {found[0].obstacle}"
            raise ValueError(f"{argument}: {pattern!r} fits only layers that stay float: {obstacle}")
    return pairs


def kept(keep: Keep, layers: list[WeightLayer], edges: Callable[[], dict[str, str]]) -> dict[str, str]:
    """Map the names of the layers that the user's `keep` leaves float to the reasons.

    `edges` returns such a mapping of the edge layers; it is called only if `keep` contains "edges". ValueError if a
    pattern fits no layer, TypeError for a `keep` of another type.
    """
    if keep is None:
        return {}
    if callable(keep):
        return {
            layer.name: "keep: the callable chose it"
            for layer in layers
            if not layer.obstacle and any(keep(name, layer.module) for name in layer.names)
        }
    if not isinstance(keep, Iterable):
        raise TypeError(f"keep takes 'edges', globs on layer names, a callable or None; got {keep!r}")
    words = [keep] if isinstance(keep, str) else list(keep)
    patterns = [word for word in words if word != "edges"]
    for pattern in patterns:
        require_match(pattern, layers, "keep", words=("edges",))
    reasons = edges() if "edges" in words else {}
    for layer in layers:
        if (matched := first_match(layer, patterns)) is not None:
            reasons.setdefault(layer.name, f"keep: {matched!r}")
    return reasons
