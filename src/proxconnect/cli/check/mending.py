"""The legitimate pair that keeps the B of an illegitimate one, and the code that makes it."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from proxconnect._support.user_code import guarded
from proxconnect.cli.check.subject import Source, Subject
from proxconnect.pairs import PAIRS, Heuristic, Pair, prox
from proxconnect.theory.new_pairs.correction import UnboundedForwardWarning, correct

_LINE = torch.linspace(-12, 12, 481, dtype=torch.float64)


@dataclass(frozen=True)
class Mended:
    """The pair that `theory.correct` makes of an illegitimate one."""

    name: str
    mu: float | None
    """The only μ of the old pair whose B it keeps; None if it keeps B at every μ."""
    in_catalogue: bool
    warning: str | None
    """A warning if F misses ±1."""
    code: str


def mend(subject: Subject, mu: float | None) -> Mended:
    """Make the legitimate pair that keeps B at every μ, else at `mu`; ValueError says why there is none."""
    source = subject.source
    with warnings.catch_warnings(record=True) as caught, guarded(f"integrating the backward of {subject.name}"):
        warnings.simplefilter("always", UnboundedForwardWarning)
        pair, code, at = _corrected(source, mu)
        assert pair.sharpness is not None  # what `correct` makes has one
        mus = [*filter(pair.sharpness.contains, (1.0, 2.0, 5.0)), pair.sharpness.start]
        if not any(bool(pair.forward(_LINE, mu).any()) for mu in mus):
            raise ValueError("B is 0 throughout, and so would F be; if B is autograd's, it finds no way through F")
        twin = _twin(pair, mus)
    misses = [str(w.message) for w in caught if issubclass(w.category, UnboundedForwardWarning)]
    warning = misses[0] if misses else None
    if twin is not None:
        return Mended(
            twin, at, True, warning, f'import proxconnect\n\nmodel = proxconnect.binarize(model, weights="{twin}")'
        )
    call = f'pair = correct({code}, name="{pair.name}")'
    if len(call) > 76:
        call = f'pair = correct(\n    {code},\n    name="{pair.name}",\n)'
    head = "\n".join(["import proxconnect", *source.imports.splitlines(), "from proxconnect.theory import correct"])
    return Mended(pair.name, at, False, warning, f"{head}\n\n{call}\nmodel = proxconnect.binarize(model, weights=pair)")


def _corrected(source: Source, mu: float | None) -> tuple[Pair, str, float | None]:
    """Return the pair, the expression that `correct` takes, and the μ whose B it keeps, None for every μ."""
    given, code, name = source.backward, source.code, f"{source.name}+"
    if isinstance(given, Heuristic):
        try:
            return correct(given, name), code, None
        except ValueError:  # its B is not μB(μx): at one μ there is a pair all the same
            if given.sharpness is None:
                raise
    if not isinstance(given, Pair | Heuristic):
        return correct(given, name), code, None
    at = None if given.sharpness is None or mu is None else mu
    if at is not None:
        given, code = given.at(at), f"{code}.at({at!r})"
    if isinstance(given, Heuristic):
        return correct(given, name), code, at
    return correct(given.backward, name), f"{code}.backward", at  # a Pair itself says that it needs none


def _twin(pair: Pair, mus: Sequence[float]) -> str | None:
    """Find the pair of the catalogue with P = id and the same F and B at each of `mus`."""
    for name, other in PAIRS.items():
        if not isinstance(other, Pair) or other.prox != prox.identity or other.sharpness is None:
            continue
        if all(
            torch.allclose(getattr(pair, part)(_LINE, mu), getattr(other, part)(_LINE, mu), rtol=1e-9, atol=1e-9)
            for mu in mus
            for part in ("forward", "backward")
        ):
            return name
    return None
