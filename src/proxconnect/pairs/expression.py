"""Pairs in words: `T of P`, as "clip of gap(1, 1)", is the pair with that transform and that prox."""

import re
from difflib import get_close_matches
from typing import TypeVar

from proxconnect.pairs import prox, squashing, transform
from proxconnect.pairs.pair import Pair
from proxconnect.pairs.part import Part
from proxconnect.pairs.prox import Prox
from proxconnect.pairs.transform import Transform

PartT = TypeVar("PartT", bound=Part)

PROXES: dict[str, Prox | type[Prox]] = {
    name: part for name, part in vars(prox).items()
    if name.islower() and (isinstance(part, Prox) or (isinstance(part, type) and issubclass(part, Prox)))
}  # fmt: skip
"""The prox maps by name; a class is a family, whose members take numbers."""

TRANSFORMS: dict[str, Transform | type[Transform]] = {
    name: part for module in (transform, squashing) for name, part in vars(module).items()
    if name.islower() and (isinstance(part, Transform) or (isinstance(part, type) and issubclass(part, Transform)))
}  # fmt: skip
"""The transforms by name; a class is a family, whose members take numbers."""

_PART = re.compile(r"(\w+)(?:\(([^()]*)\))?")


def is_expression(text: str) -> bool:
    """Return True if `text` looks like a pair in words: it has a word "of" or brackets."""
    return " of " in text or "(" in text


def parse(text: str) -> Pair:
    """Return the pair that `text` describes, "T of P", or "T" alone for the identity as P.

    T and P are names of `proxconnect.pairs`, with numbers in brackets for members of a family, as "swish(0.5) of
    gap(0.2)". The text is the pair's name.

    Raises:
        ValueError: the text is no such expression, a name is unknown, or a family refuses the numbers.
    """
    first, _, second = text.partition(" of ")
    T = _part(first, TRANSFORMS, "transform", text)
    P = _part(second, PROXES, "prox map", text) if second else prox.identity
    name = " of ".join(part.strip() for part in (first, second) if part)
    doc = f"{name}: F(x) = T(P(x)), B(x) = T'(P(x)).\n\nT = {T}, and P(x) = argmin_z ½(z - x)² + r(z) = {P}."
    return Pair(name, P, T, doc)


def _part(text: str, known: dict[str, PartT | type[PartT]], kind: str, whole: str) -> PartT:
    match = _PART.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{whole!r} is no pair: write a transform T and a prox map P as 'T of P', such as "
                         "'clip of gap(1, 1)'")  # fmt: skip
    name, numbers = match.groups()
    if name not in known:
        near = get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
        raise ValueError(f"unknown {kind} {name!r} in {whole!r}: {hint}")
    found = known[name]
    if isinstance(found, Part):
        if numbers is not None:
            raise ValueError(f"{name} in {whole!r} takes no numbers: write {name}")
        return found
    try:
        return found(*(float(number) for number in (numbers or "").split(",") if number.strip()))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{text.strip()!r} in {whole!r}: {error}") from error
