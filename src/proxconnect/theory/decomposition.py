"""Decompose: is there a transform T and a proximal quantiser P with F = T∘P and B = T'∘P?

There is if and only if F and B are functions of P = ∫dF/B, and that P never falls.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeGuard

import torch
from torch import Tensor

from proxconnect.pairs import AnyPair, Heuristic, Pair, resolve
from proxconnect.theory.blackbox import Function, autograd_derivative, probed
from proxconnect.theory.curves import ProxCurve, TransformCurve
from proxconnect.theory.declaration import Declaration, DeclaredTransform
from proxconnect.theory.divergence import diverging
from proxconnect.theory.findings import Finding, falling, moving_without_push
from proxconnect.theory.jumps import Jump, jumps, wrong_jumps
from proxconnect.theory.mesh import REACH, TooRoughError
from proxconnect.theory.plateaus import Plateau, faint, plateaus, varying_on_plateaus
from proxconnect.theory.reconstruction import reconstruct
from proxconnect.theory.sampling import Sample, sample
from proxconnect.theory.verdict import Verdict

DOMAIN = (-REACH, REACH)
"""Where a pair is looked at."""


class _Subject(NamedTuple):
    """What is asked about."""

    name: str
    mu: float | None
    forward: Function
    backward: Function
    declaration: Declaration | None


def decompose(
    pair_or_forward: str | AnyPair | Callable[[Tensor], Tensor],
    backward: Callable[[Tensor], Tensor] | None = None,
    *,
    mu: float | None = None,
    domain: tuple[float, float] = DOMAIN,
) -> Verdict:
    """Whether a pair is legitimate, why, and its P, T and r.

    F and B are closed in on where they jump, bend or vanish, in float64, to about 1e-15·max(1, |x|). What is narrower
    than 1/500 of max(1, |x|) may be missed, as may jumps and variations below 1e-10 of their size.

    Args:
        pair_or_forward: a name of `PAIRS`, a `Pair` or a `Heuristic`; or F, a callable from a float64 tensor to one of
            its shape, each entry by itself; or a `torch.autograd.Function`.
        backward: B, a callable like F. None with a callable F takes the factor that autograd puts on the gradient, as
            of a `torch.autograd.Function`.
        mu: the sharpness; needed for a pair that depends on it, not taken for callables.
        domain: the part of the line to look at, (low, high).

    Raises:
        ProbeError: a callable that raises, mixes entries, is random, changes shape or dtype, or is NaN or infinite.
        ValueError: a `mu` outside the pair's domain, an empty domain.
        TypeError: neither a pair nor a callable.

    Example:
        >>> from proxconnect import theory
        >>> verdict = theory.decompose("bnn+", mu=5.0)
        >>> verdict.legitimate
        False
        >>> print(verdict)
        bnn+ at μ = 5: not legitimate. F stays at 1, so P is flat there, but B is not constant: it goes
        from -0.3691 to 5
    """
    try:
        low, high = map(float, domain)
    except (TypeError, ValueError):
        raise TypeError(f"domain takes two numbers, (low, high); got {domain!r}") from None
    if not (-float("inf") < low < high < float("inf")):
        raise ValueError(f"domain must be (low, high) with low < high, both finite; got {domain}")
    subject = _subject(pair_or_forward, backward, mu, low, high)
    F = probed(subject.forward, "forward", low, high)
    B = probed(subject.backward, "backward", low, high)
    try:
        sampled = sample(F, B, low, high)
    except TooRoughError as error:
        return _verdict(subject, domain, None, f"{error}")
    return _judge(subject, domain, sampled)


def _subject(
    given: object, backward: Callable[[Tensor], Tensor] | None, mu: float | None, low: float, high: float
) -> _Subject:
    if isinstance(given, str | Pair | Heuristic):
        pair = resolve(given)
        if backward is not None:
            raise TypeError(f"pair {pair.name!r} has a backward of its own: leave the second argument out")
        pair.forward(torch.zeros(0), mu)  # refuses a μ that is missing or outside the domain
        sharpness = 1.0 if mu is None else mu
        declaration = Declaration(pair, sharpness, low, high) if isinstance(pair, Pair) else None
        return _Subject(
            pair.name, None if pair.sharpness is None else sharpness,
            lambda x: pair.forward(x, sharpness), lambda x: pair.backward(x, sharpness), declaration,
        )  # fmt: skip
    if _is_autograd_function(given):
        given = given.apply
    if not callable(given):
        raise TypeError(f"decompose takes a pair, its name or a callable of one tensor; got {type(given).__name__}")
    if mu is not None:
        raise TypeError("mu is for pairs: let the callables have their sharpness themselves")
    owner = getattr(given, "__self__", None)
    named = owner if _is_autograd_function(owner) else given
    name = getattr(named, "__name__", type(named).__name__)
    return _Subject(name, None, given, autograd_derivative(given) if backward is None else backward, None)


def _is_autograd_function(given: object) -> TypeGuard[type[torch.autograd.Function]]:
    return isinstance(given, type) and issubclass(given, torch.autograd.Function)


def _judge(subject: _Subject, domain: tuple[float, float], sampled: Sample) -> Verdict:
    level, steps = list(plateaus(sampled)), list(jumps(sampled))
    found = list(_breaches(sampled, level, steps))
    declaration = subject.declaration
    declared = None if declaration is None else declaration.error is None
    if found and declaration is not None and declared:
        reason = "F = T∘P and B = T'∘P as declared, though F and B alone do not show it"
        return _verdict(subject, domain, True, reason, None, declared, declaration.prox, declaration.transform)
    if against := [f for f in found if f.decided]:
        first = _nearest([f for f in against if not f.by_convention] or against)
        return _verdict(subject, domain, False, first.reason, first, declared)
    if found:
        first = _nearest(found)
        return _verdict(subject, domain, None, first.reason, first, declared)
    anchor = declaration.anchor if declared and declaration is not None else 0.0
    prox, transform = reconstruct(sampled, level, steps, anchor)
    reason = "F and B are functions of P = ∫dF/B, which never falls"
    convention = _only_by_convention(level, steps)
    if convention is not None:
        reason = f"{reason}; {convention.reason}"
    if declaration is not None and declaration.error is not None:
        reason = f"{reason}; but {declaration.error}, so the pair is not the one that it declares"
    return _verdict(subject, domain, True, reason, convention, declared, prox, transform)


def _breaches(sampled: Sample, level: list[Plateau], steps: list[Jump]) -> Iterator[Finding]:
    yield from varying_on_plateaus(sampled, level)
    yield from faint(sampled)
    yield from falling(sampled)
    yield from moving_without_push(sampled)
    yield from diverging(sampled)
    yield from wrong_jumps(sampled, steps)


def _nearest(found: list[Finding]) -> Finding:
    """The one nearest to 0, of two as near the right one."""
    return min(found, key=lambda f: (round(min(map(abs, f.interval)), 12), -f.interval[1]))


def _only_by_convention(level: list[Plateau], steps: list[Jump]) -> Finding | None:
    """What a legitimate pair owes to the convention, if anything."""
    for jump in steps:
        if not jump.is_even:
            values = f"{jump.before:.6g} before, {jump.here:.6g} at and {jump.after:.6g} after it"
            return Finding(
                f"at the jump at x = {jump.at.x:.6g} B is {values}, and the value at it counts", (jump.at.x,) * 2
            )
    for plateau in level:
        if len(plateau.stretches) > 1:
            return Finding("B is 0 between parts of a plateau of F, where P is free to move", plateau.interval)
    return None


def _verdict(
    subject: _Subject,
    domain: tuple[float, float],
    legitimate: bool | None,
    reason: str,
    finding: Finding | None = None,
    declared: bool | None = None,
    prox: ProxCurve | None = None,
    transform: TransformCurve | DeclaredTransform | None = None,
) -> Verdict:
    interval = None if finding is None else finding.interval
    by_convention = finding is not None and (legitimate is True or finding.by_convention)
    return Verdict(
        subject.name, subject.mu, legitimate, reason, interval, by_convention, domain,
        subject.forward, subject.backward, prox, transform, declared,
    )  # fmt: skip
