"""Values of a binary network's config.json: checks that turn each into plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from proxconnect.layers import Accumulator
from proxconnect.pairs import PAIRS

Names = str | Mapping[str, str | None] | None
"""The name of a pair in `PAIRS`, or such names by patterns of layer names."""

_FIELDS = {field.name for field in fields(Accumulator)}


def names(part: str, choice: Names) -> Names:
    """Return the pairs of weights or activations as plain data; ValueError for any other value."""
    named = list(choice.values()) if isinstance(choice, Mapping) else [choice]
    for name in named:
        if name is not None and not (isinstance(name, str) and name in PAIRS):
            raise ValueError(f"{part} of a configuration are names of pairs ({', '.join(PAIRS)}); got {name!r}: for a "
                             "pair of your own load the float network and call binarize")  # fmt: skip
    return dict(choice) if isinstance(choice, Mapping) else choice


def kept(keep: str | Sequence[str] | None) -> str | list[str] | None:
    """Return the patterns of the layers that stay float; ValueError for any other value."""
    if keep is None or isinstance(keep, str):
        return keep
    return _strings(keep, Sequence, "keep of a configuration is 'edges', patterns on names of layers, or null")


def thresholds(given: Sequence[str] | None) -> list[str] | None:
    """Return the names of layers; ValueError for any other value."""
    if given is None:
        return None
    return _strings(given, list | tuple, "thresholds of a configuration are a list of names of layers, or null")


def accumulator(given: Accumulator | Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the fields of an accumulator; ValueError for an unknown field, or a value that it cannot have."""
    if given is None:
        return None
    if isinstance(given, Accumulator):
        return asdict(given)
    if not isinstance(given, Mapping) or not set(given) <= _FIELDS or type(given.get("slope", 2.0)) not in (int, float):
        raise ValueError(f"accumulator of a configuration has {', '.join(sorted(_FIELDS))}; got {given!r}")
    return asdict(Accumulator(**given))


def layers(given: Mapping[str, Sequence[str | None]] | None) -> dict[str, list[str | None]] | None:
    """Return the pairs of weights and inputs by the name of each binary layer; ValueError for any other value."""
    if given is None:
        return None
    couples = list(given.values()) if isinstance(given, Mapping) else [given]
    for couple in couples:
        if not isinstance(couple, list | tuple) or len(couple) != 2 or couple[0] is None:
            raise ValueError("layers of a configuration have a couple of pairs each, as ['bnn++', null] for weights "
                             f"and inputs, by their names; got {couple!r}")  # fmt: skip
        names("layers", dict(enumerate(couple)))  # type: ignore[arg-type]  # only the values are checked
    assert isinstance(given, Mapping)
    return {name: list(pairs) for name, pairs in given.items()}


def _strings(given: Any, kind: Any, wanted: str) -> list[str]:
    if not isinstance(given, kind) or not all(isinstance(name, str) for name in given):
        raise ValueError(f"{wanted}; got {given!r}")
    return list(given)
