"""What a config.json may say of a binary network: plain data, of which each part is checked before it is used."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from proxconnect.layers import Accumulator
from proxconnect.pairs import PAIRS

Names = str | Mapping[str, str | None] | None
"""A pair by its name in `PAIRS`, or names by patterns on layers."""

_FIELDS = {field.name for field in fields(Accumulator)}


def names(part: str, choice: Names) -> Names:
    """A choice of pairs that JSON holds; ValueError for all else."""
    named = list(choice.values()) if isinstance(choice, Mapping) else [choice]
    for name in named:
        if name is not None and not (isinstance(name, str) and name in PAIRS):
            raise ValueError(f"{part} of a configuration are names of pairs ({', '.join(PAIRS)}); got {name!r}: for a "
                             "pair of your own load the float network and call binarize")  # fmt: skip
    return dict(choice) if isinstance(choice, Mapping) else choice


def kept(keep: str | Sequence[str] | None) -> str | list[str] | None:
    """Patterns of layers that stay float; ValueError for all else."""
    if keep is None or isinstance(keep, str):
        return keep
    if not isinstance(keep, Sequence) or not all(isinstance(pattern, str) for pattern in keep):
        raise ValueError(f"keep of a configuration is 'edges', patterns on names of layers, or null; got {keep!r}")
    return list(keep)


def accumulator(given: Accumulator | Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The fields of an accumulator; ValueError for those that none has, and for values that it cannot have."""
    if given is None:
        return None
    if isinstance(given, Accumulator):
        return asdict(given)
    if not isinstance(given, Mapping) or not set(given) <= _FIELDS or type(given.get("slope", 2.0)) not in (int, float):
        raise ValueError(f"accumulator of a configuration has {', '.join(sorted(_FIELDS))}; got {given!r}")
    return asdict(Accumulator(**given))


def thresholds(given: Sequence[str] | None) -> list[str] | None:
    """The names of layers; ValueError for all else."""
    if given is None:
        return None
    if not isinstance(given, list | tuple) or not all(isinstance(name, str) for name in given):
        raise ValueError(f"thresholds of a configuration are a list of names of layers, or null; got {given!r}")
    return list(given)


def layers(given: Mapping[str, Sequence[str | None]] | None) -> dict[str, list[str | None]] | None:
    """By the name of each binary layer the pairs of its weights and inputs; ValueError for all else."""
    if given is None:
        return None
    couples = list(given.values()) if isinstance(given, Mapping) else [given]
    for couple in couples:
        if not isinstance(couple, list | tuple) or len(couple) != 2 or couple[0] is None:
            raise ValueError("layers of a configuration have a couple of pairs each, as ['bnn++', null] for weights "
                             f"and inputs, by their names; got {couple!r}")  # fmt: skip
        names("layers", dict(enumerate(couple)))  # type: ignore[arg-type]  # the names alone are looked at
    assert isinstance(given, Mapping)
    return {name: list(pairs) for name, pairs in given.items()}
