"""The pair, or F and B, that `proxconnect check` is asked about, and the legitimate pair that keeps its B."""

import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch

from proxconnect._support.user_code import LoadError, file_of, guarded, line_of, load
from proxconnect.pairs import PAIRS, SURROGATES, AnyPair, Heuristic, Pair, Sharpness, prox, resolve
from proxconnect.pairs.expression import is_expression
from proxconnect.theory import ProbeError, UnboundedForwardWarning, Verdict, autograd_derivative, correct, decompose
from proxconnect.theory.functions.blackbox import Function, is_autograd_function

_LINE = torch.linspace(-12, 12, 481, dtype=torch.float64)


class Source(NamedTuple):
    """The object whose B a corrected pair keeps, and the Python code that refers to it, for the printed advice."""

    name: str
    """The last part of its name; the corrected pair is called that and a +."""
    backward: AnyPair | Function
    imports: str
    code: str


@dataclass(frozen=True)
class Subject:
    """The pair that `check` is asked about, or F and B, under the name that the command line gives.

    `forward` is a pair or F. `backward` is B; it is None for pairs, and for an F whose B is autograd's.
    """

    name: str
    forward: AnyPair | Function
    backward: Function | None
    source: Source

    @property
    def sharpness(self) -> Sharpness | None:
        """The allowed values of the sharpness μ; None for callables and for pairs that do not depend on μ."""
        return self.forward.sharpness if isinstance(self.forward, Pair | Heuristic) else None

    def mus(self, asked: Sequence[float] = ()) -> tuple[float | None, ...]:
        """Return the values of the sharpness μ to check: those `asked`, or 1, 2 and 5, raised to the lowest allowed μ.

        If nothing depends on μ, as for callables, the tuple is (None,). ValueError if values are asked for a callable.
        """
        if asked and not isinstance(self.forward, Pair | Heuristic):
            raise ValueError("--mu is for a Pair or a Heuristic: a callable has its sharpness in itself")
        if self.sharpness is None:
            return (None,)
        return tuple(dict.fromkeys(asked)) or tuple(sorted({max(self.sharpness.lowest, mu) for mu in (1.0, 2.0, 5.0)}))

    def verdict(self, mu: float | None, domain: tuple[float, float]) -> Verdict:
        """Check the subject at sharpness `mu` for x in `domain` (lowest, highest) with `theory.decompose`.

        `mu` is one of `mus()`: None if and only if nothing depends on μ. ValueError if a pair refuses it, if the domain
        or a function is not usable, or if the user's code raises, with its FILE:LINE. TypeError if callables get a μ.
        """
        with guarded(f"checking {self.name}"):
            try:
                verdict = decompose(self.forward, self.backward, mu=mu, domain=domain)
            except ProbeError as error:
                place = None if error.__cause__ is None else line_of(error.__cause__)
                raise ValueError(f"{self.name}: {error}{f' ({place})' if place else ''}") from error
        return replace(verdict, name=self.name)


def subject(given: Sequence[str], backward: str | None) -> Subject:
    """Return the subject that the arguments of `check` name; this imports modules of the user.

    `given` has one name of the catalogue, one MODULE:NAME of a pair or of F, or two, of F and of B. It is empty if
    `backward` is MODULE:NAME of a B, which is checked with F = sign. ValueError if nothing usable is named.
    """
    if backward is not None:
        if given:
            raise ValueError("--backward stands alone, with F = sign; give both as MODULE:F MODULE:B")
        return _joined("sign", lambda x: prox.sign(x, 1.0), backward)
    if len(given) == 1:
        return _loaded(given[0]) if ":" in given[0] else named(given[0])
    if len(given) != 2 or not all(":" in path for path in given):
        raise ValueError("give one pair, or F and B as MODULE:F MODULE:B")
    return _joined(given[0], _function(given[0]), given[1])


def named(name: str) -> Subject:
    """Return the subject for a name in `PAIRS` or in `SURROGATES`, or for "T of P"; ValueError for another name."""
    if name in SURROGATES:
        source = Source(name, SURROGATES[name], "from proxconnect.pairs import SURROGATES", f'SURROGATES["{name}"]')
        return Subject(name, SURROGATES[name], None, source)
    if is_expression(name):
        source = Source(name, resolve(name), "from proxconnect.pairs import resolve", f'resolve("{name}")')
        return Subject(name, resolve(name), None, source)
    try:
        pair = resolve(name)
    except ValueError as error:
        raise ValueError(f"{error}, {', '.join(SURROGATES)}; a pair of your own is MODULE:NAME") from None
    return Subject(name, pair, None, Source(name, pair, "", f'proxconnect.PAIRS["{name}"]'))


def _loaded(path: str) -> Subject:
    found = load(path)
    if isinstance(found, Pair | Heuristic):
        return Subject(path, found, None, _source(path, found))
    forward = _callable(path, found)
    name, _, imports, code = _source(path, forward)
    if is_autograd_function(found):
        code = f"{code}.apply"
    imports = f"{imports}\nfrom proxconnect.theory import autograd_derivative"
    source = Source(name, autograd_derivative(forward), imports, f"autograd_derivative({code})")
    return Subject(path, forward, None, source)


def _joined(name: str, forward: Function, path: str) -> Subject:
    backward = _function(path)
    if is_autograd_function(getattr(backward, "__self__", None)):
        raise LoadError(f"{path!r} is an autograd Function, which has an F of its own: check {path} alone")
    return Subject(f"({name}, {path})", forward, backward, _source(path, backward))


def _function(path: str) -> Function:
    """Load a callable that is named as F or as B."""
    if ":" not in path:
        raise ValueError(f"{path!r} is no MODULE:NAME, as in my_module:my_surrogate; to check a pair, name it alone")
    found = load(path)
    if isinstance(found, Pair | Heuristic):
        raise LoadError(f"{path!r} is a pair, which has both F and B: check {path} alone")
    return _callable(path, found)


def _callable(path: str, found: Any) -> Function:
    if is_autograd_function(found):
        found = found.apply
    if isinstance(found, type) or not callable(found):
        what = f"the class {found.__name__}" if isinstance(found, type) else f"of type {type(found).__name__}"
        raise LoadError(
            f"{path!r} ({file_of(path)}) is {what}: give a Pair, a Heuristic, a callable of one tensor or a "
            "torch.autograd.Function"
        )
    function: Function = found
    return function


def _source(path: str, backward: AnyPair | Function) -> Source:
    """Name the object of MODULE:NAME in code."""
    module, _, name = path.partition(":")
    return Source(name.rpartition(".")[2], backward, f"import {module}", f"{module}.{name}")


@dataclass(frozen=True)
class Correction:
    """The legitimate pair that keeps the B of an illegitimate one: its name, and Python code that uses it.

    `code` binarizes `model` with the pair, which it first makes by `theory.correct` unless it is in the catalogue.
    """

    name: str
    mu: float | None
    """The sharpness of the old pair whose B it keeps; None if it keeps B at every sharpness."""
    in_catalogue: bool
    normalised: bool
    """Whether it keeps B up to a constant factor, by which F ends at ±1."""
    warning: str | None
    """A warning if F does not tend to ±1, else None."""
    code: str


def corrected(subject: Subject, mu: float | None) -> Correction:
    """Return the legitimate pair that keeps the B of an illegitimate subject; it may be one of the catalogue.

    If no pair keeps B at every sharpness, the result keeps the B of sharpness `mu`. If F would not tend to ±1, F and B
    are divided by a constant, where one helps. ValueError if no pair keeps B.
    """
    correction = _corrected(subject, mu, normalise=False)
    if correction.warning is not None and not correction.in_catalogue:
        with suppress(ValueError):  # no constant makes the limits of F ±1
            return _corrected(subject, mu, normalise=True)
    return correction


def _corrected(subject: Subject, mu: float | None, normalise: bool) -> Correction:
    source = subject.source
    with warnings.catch_warnings(record=True) as caught, guarded(f"integrating the backward of {subject.name}"):
        warnings.simplefilter("always", UnboundedForwardWarning)
        pair, code, at = _keeping(source, mu, normalise)
        assert pair.sharpness is not None  # what `correct` makes has one
        mus = [*filter(pair.sharpness.contains, (1.0, 2.0, 5.0)), pair.sharpness.start]
        if not any(bool(pair.forward(_LINE, mu).any()) for mu in mus):
            raise ValueError("B is 0 throughout, and so would F be; if B is autograd's, it finds no way through F")
        twin = _twin(pair, mus)
    warning = next((str(w.message) for w in caught if issubclass(w.category, UnboundedForwardWarning)), None)
    if twin is not None:
        code = f'import proxconnect\n\nmodel = proxconnect.binarize(model, weights="{twin}")'
        return Correction(twin, at, True, normalise, warning, code)
    options = [code, f'name="{pair.name}"', *(["normalise=True"] if normalise else [])]
    call = f"pair = correct({', '.join(options)})"
    if len(call) > 76:
        call = "\n".join(["pair = correct(", *(f"    {option}," for option in options), ")"])
    head = "\n".join(["import proxconnect", *source.imports.splitlines(), "from proxconnect.theory import correct"])
    return Correction(
        pair.name, at, False, normalise, warning, f"{head}\n\n{call}\nmodel = proxconnect.binarize(model, weights=pair)"
    )


def _keeping(source: Source, mu: float | None, normalise: bool) -> tuple[Pair, str, float | None]:
    """Return the pair, the expression that `correct` takes, and the μ whose B it keeps, None for every μ."""
    given, code = source.backward, source.code
    kept = partial(correct, name=f"{source.name}+", normalise=normalise)
    if isinstance(given, Heuristic):
        try:
            return kept(given), code, None
        except ValueError:  # its B is not μB(μx): at one μ there is a pair all the same
            if given.sharpness is None:
                raise
    if not isinstance(given, Pair | Heuristic):
        return kept(given), code, None
    at = None if given.sharpness is None or mu is None else mu
    if at is not None:
        given, code = given.at(at), f"{code}.at({at!r})"
    if isinstance(given, Heuristic):
        return kept(given), code, at
    return kept(given.backward), f"{code}.backward", at  # a Pair itself says that it needs none


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
