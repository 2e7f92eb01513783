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

    ValueError if a pair is unknown, the mapping is empty, or a pattern fits none of `layers`. The message names
    `argument`, which is "weights" or "activations".
    """
    if not isinstance(choice, Mapping):
        return {"*": None if choice is None else resolve(choice)}
    if not choice:
        raise ValueError(f"{argument}: the mapping is empty; pass a pair, or patterns such as {{'layer1.*': 'bnn++'}}")
    for pattern in choice:
        require_match(pattern, layers, argument)
    return {pattern: None if pair is None else resolve(pair) for pattern, pair in choice.items()}


def require_effect(
    pairs: Mapping[str, AnyPair | None], layers: list[WeightLayer], floats: Mapping[str, str], argument: str
) -> None:
    """Raise ValueError for a pattern of `pairs`, other than "*", that decides nothing.

    Such a pattern fits only layers that earlier patterns decide, or has a pair and fits only layers that stay float:
    `floats` holds their reasons by name. The message names `argument`.
    """
    for pattern, pair in pairs.items():
        fitting = [layer for layer in layers if first_match(layer, [pattern]) is not None]
        decided = [layer for layer in fitting if first_match(layer, pairs) == pattern]
        if pattern == "*" or any(pair is None or layer.name not in floats for layer in decided):
            continue
        if not decided:
            earlier = first_match(fitting[0], pairs)
            raise ValueError(
                f"{argument}: {pattern!r} decides no layer, because {earlier!r} stands before it and fits "
                f"{fitting[0].name or 'the model'} too: the first pattern that fits decides. Put {pattern!r} first"
            )
        name, reason = decided[0].name, floats[decided[0].name]
        advice = ". Pass a `keep` without them, such as None" if reason.startswith(("edge", "keep")) else ""
        raise ValueError(
            f"{argument}: {pattern!r} fits only layers that stay float: {name or 'the model'}: {reason}{advice}"
        )


def kept(keep: Keep, layers: list[WeightLayer], edges: Callable[[], dict[str, str]]) -> dict[str, str]:
    """Map the names of the layers that the user's `keep` leaves float to the reasons.

    `edges` returns such a mapping of the edge layers; it is called only if `keep` contains "edges". ValueError if a
    pattern fits no layer, TypeError for a `keep` of another type.
    """
    if keep is None:
        return {}
    takes = "keep takes 'edges', globs on layer names, a callable of (name, module) or None"
    if isinstance(keep, type | nn.Module):  # callables, too
        kind = keep.__name__ if isinstance(keep, type) else type(keep).__name__
        raise TypeError(f"{takes}; got {kind}: keep=lambda name, module: isinstance(module, {kind}) keeps this type")
    if callable(keep):
        try:
            chosen = [
                layer
                for layer in layers
                if not layer.obstacle and any(keep(name, layer.module) for name in layer.names)
            ]
        except Exception as error:
            error.add_note(
                "This happened in your keep(name, module), which is called for each layer that can be binary"
            )
            raise
        return dict.fromkeys((layer.name for layer in chosen), "keep: the callable chose it")
    if not isinstance(keep, Iterable):
        raise TypeError(f"{takes}; got {keep!r}")
    words = [keep] if isinstance(keep, str) else list(keep)
    patterns = [word for word in words if word != "edges"]
    for pattern in patterns:
        require_match(pattern, layers, "keep", words=("edges",))
    reasons = edges() if "edges" in words else {}
    for layer in layers:
        if (matched := first_match(layer, patterns)) is not None:
            reasons.setdefault(layer.name, f"keep: {matched!r}")
    return reasons
