"""The pair, or F and B, that `proxconnect check` is asked about."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from proxconnect._support.user_code import LoadError, file_of, guarded, line_of, load
from proxconnect.pairs import AnyPair, Heuristic, Pair, Sharpness, prox, resolve
from proxconnect.pairs.catalogue import SURROGATES
from proxconnect.theory.functions.blackbox import ProbeError, autograd_derivative
from proxconnect.theory.verdicts.decomposition import Verdict, decompose

Function = Callable[[Tensor], Tensor]


class Source(NamedTuple):
    """The object whose B a mended pair keeps, and the code that names it."""

    name: str
    """The last part of its name, after which the mended pair is called."""
    backward: AnyPair | Function
    imports: str
    code: str


@dataclass(frozen=True)
class Subject:
    """A pair, or F and B, under the name that the command line gives."""

    name: str
    forward: AnyPair | Function
    backward: Function | None
    source: Source

    @property
    def sharpness(self) -> Sharpness | None:
        """The range of μ; None for callables and for pairs that do not depend on μ."""
        return self.forward.sharpness if isinstance(self.forward, Pair | Heuristic) else None

    def mus(self, asked: Sequence[float] = ()) -> tuple[float | None, ...]:
        """Return the μ asked for, or a few from soft to sharp, only None if nothing depends on μ.

        Raises ValueError for a callable and a μ.
        """
        if asked and not isinstance(self.forward, Pair | Heuristic):
            raise ValueError("--mu is for a Pair or a Heuristic: a callable has its sharpness in itself")
        if self.sharpness is None:
            return (None,)
        return tuple(dict.fromkeys(asked)) or tuple(sorted({max(self.sharpness.lowest, mu) for mu in (1.0, 2.0, 5.0)}))

    def verdict(self, mu: float | None, domain: tuple[float, float]) -> Verdict:
        """Call `decompose` at one μ; ValueError for bad input, and with FILE:LINE if code of the user raises."""
        with guarded(f"checking {self.name}"):
            try:
                verdict = decompose(self.forward, self.backward, mu=mu, domain=domain)
            except ProbeError as error:
                place = None if error.__cause__ is None else line_of(error.__cause__)
                raise ValueError(f"{self.name}: {error}{f' ({place})' if place else ''}") from error
        return replace(verdict, name=self.name)


def subject(given: Sequence[str], backward: str | None) -> Subject:
    """Find what NAME, MODULE:PAIR, MODULE:F, MODULE:F MODULE:B or --backward names; ValueError for other arguments."""
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
    """Find a pair of `PAIRS` or of `SURROGATES`; ValueError for an unknown name."""
    if name in SURROGATES:
        source = Source(name, SURROGATES[name], "from proxconnect.pairs import SURROGATES", f'SURROGATES["{name}"]')
        return Subject(name, SURROGATES[name], None, source)
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
    if _is_autograd_function(found):
        code = f"{code}.apply"
    imports = f"{imports}\nfrom proxconnect.theory import autograd_derivative"
    source = Source(name, autograd_derivative(forward), imports, f"autograd_derivative({code})")
    return Subject(path, forward, None, source)


def _joined(name: str, forward: Function, path: str) -> Subject:
    backward = _function(path)
    if _is_autograd_function(getattr(backward, "__self__", None)):
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
    if _is_autograd_function(found):
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


def _is_autograd_function(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, torch.autograd.Function)
