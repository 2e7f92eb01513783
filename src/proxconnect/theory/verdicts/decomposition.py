"""The verdict whether F = T∘P and B = T'∘P: whether F and B are functions of P = ∫dF/B, which never falls."""

from dataclasses import dataclass, field, replace
from functools import partial

import torch

from proxconnect._support.arguments import number
from proxconnect.pairs import AnyPair, Heuristic, Pair, resolve
from proxconnect.pairs.probing import ProbeError
from proxconnect.pairs.transform import FixedTransform
from proxconnect.theory.functions.blackbox import (
    Function,
    NotFiniteError,
    autograd_derivative,
    is_autograd_function,
    probed,
)
from proxconnect.theory.functions.mesh import REACH, TooRoughError
from proxconnect.theory.verdicts import rules
from proxconnect.theory.verdicts.curves import ProxCurve, TransformCurve, middle_at_zero, reconstruct
from proxconnect.theory.verdicts.declaration import Declaration
from proxconnect.theory.verdicts.presentation import ANSWERS, plot_verdict
from proxconnect.theory.verdicts.rules import CONSTANT, Finding, Jump, Plateau
from proxconnect.theory.verdicts.sampling import Sample, sample

DOMAIN = (-REACH, REACH)
"""The part of the line on which pairs are looked at."""

TOLERANCE = CONSTANT
"""Jumps of F and variations of B on a plateau below this share of their size go unseen."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The result of `decompose`: whether F = T∘P, B = T'∘P for a transform T and a proximal quantiser P, and why.

    `prox`, `transform` and `regularizer` take float tensors of any shape and keep shape and dtype. They are None unless
    the pair is legitimate.
    """

    name: str
    mu: float | None = None
    """The sharpness; None if the pair does not depend on it."""
    legitimate: bool | None = None
    """True if there are such a T and P, False if not, None if float64 cannot decide."""
    reason: str = ""
    """Why, in one sentence: the rule that fails, or that none does."""
    interval: tuple[float, float] | None = None
    """The x at which the pair breaks a rule or needs the convention, (low, high), equal for a point; None if no x."""
    by_convention: bool = False
    """True if only the convention decides: T crosses a gap of P with the slope that B has at the jump."""
    domain: tuple[float, float]
    """The interval of x that the verdict is on, (low, high); smaller than asked if float64 hides F or P elsewhere."""
    forward: Function = field(repr=False)
    """F at the sharpness `mu`."""
    backward: Function = field(repr=False)
    """B at the sharpness `mu`."""
    prox: ProxCurve | None = field(default=None, repr=False)
    """P with F = T∘P and B = T'∘P."""
    transform: TransformCurve | FixedTransform | None = field(default=None, repr=False)
    """T, with its `derivative`."""
    declared: bool | None = None
    """True if a `Pair` is what it declares: P never falls, T' is the derivative of T. None for other subjects."""

    @property
    def regularizer(self) -> Function | None:
        """The r of P(x) = argmin_z ½(z - x)² + r(z), up to a constant; None unless the pair is legitimate."""
        return None if self.prox is None else self.prox.regularizer

    def __str__(self) -> str:
        at = "" if self.mu is None else f" at μ = {self.mu:g}"
        convention = " (by convention)" if self.by_convention else ""
        return f"{self.name}{at}: {ANSWERS[self.legitimate]}{convention}. {self.reason}"

    plot = plot_verdict


def decompose(
    pair_or_forward: str | AnyPair | Function,
    backward: Function | None = None,
    *,
    mu: float | None = None,
    domain: tuple[float, float] = DOMAIN,
) -> Verdict:
    """Decide whether a pair is legitimate, and return the reason with its P, T and r.

    Jumps, kinks and zeros of F and B are located in float64, to about 1e-15·max(1, |x|). Details narrower than 1/500 of
    max(1, |x|) may be missed, and so may jumps and variations below 1e-10 of their size. If F moves too little or P too
    much for float64 at some x, as where F saturates, the verdict is on the x around 0 up to there, its `domain`.

    Args:
        pair_or_forward: a name of `PAIRS`, a `Pair`, a `Heuristic` or a `torch.autograd.Function`; or F, an elementwise
            callable that keeps the shape and dtype of a float64 tensor.
        backward: B, a callable like F. By default, for a callable F, the factor that autograd puts on the gradient.
        mu: the sharpness. A pair that depends on it needs it, and callables do not take it.
        domain: the part of the line to look at, (low, high).

    Raises:
        ProbeError: a callable raises, mixes entries, is random, changes shape or dtype, or is NaN or infinite.
        ValueError: the pair is unknown, its `mu` is missing or outside its domain, or `domain` is empty or infinite.
        TypeError: the first argument is neither a pair nor a callable, another does not go with it, or `mu` or `domain`
            is no number.

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
    mu = None if mu is None else number(mu, "mu")
    asked, declaration = _asked(pair_or_forward, backward, mu, (low, high))
    try:
        F = probed(asked.forward, "forward", low, high)
        B = probed(asked.backward, "backward", low, high)
        sampled = sample(F, B, low, high)
    except NotFiniteError as error:
        raise ProbeError(f"{error}, or narrow domain=(low, high)") from None
    except TooRoughError as error:
        return replace(asked, reason=f"{error}: narrow domain=(low, high)")
    return _judged(asked, declaration, sampled)


def _asked(
    given: object, backward: Function | None, mu: float | None, domain: tuple[float, float]
) -> tuple[Verdict, Declaration | None]:
    """Return the verdict without its answer, and the declaration of a `Pair`."""
    if isinstance(given, str | Pair | Heuristic):
        pair = resolve(given)
        if backward is not None:
            meant = f"write mu={backward}" if isinstance(backward, float | int) else "leave the second argument out"
            raise TypeError(f"pair {pair.name!r} already has a backward: {meant}")
        pair.forward(torch.zeros(1), mu)  # refuses a μ that is missing or outside the domain
        sharpness = 1.0 if mu is None else mu
        declaration = Declaration(pair, sharpness, *domain) if isinstance(pair, Pair) else None
        known = None if pair.sharpness is None else sharpness
        F, B = (partial(part, mu=sharpness) for part in (pair.forward, pair.backward))
        return Verdict(name=pair.name, mu=known, domain=domain, forward=F, backward=B), declaration
    if is_autograd_function(given):
        given = given.apply
    if not callable(given):
        raise TypeError(f"decompose takes a pair, its name or a callable of one tensor; got {type(given).__name__}")
    if mu is not None:
        raise TypeError("mu is for pairs: let the callables have their sharpness themselves")
    owner = getattr(given, "__self__", None)
    named = owner if is_autograd_function(owner) else given
    name = getattr(named, "__name__", type(named).__name__)
    factor = autograd_derivative(given) if backward is None else backward
    return Verdict(name=name, domain=domain, forward=given, backward=factor), None


def _judged(asked: Verdict, declaration: Declaration | None, sampled: Sample) -> Verdict:
    level, steps = list(rules.plateaus(sampled)), list(rules.jumps(sampled))
    found = [
        *rules.varying_on_plateaus(sampled, level),
        *rules.faint(sampled),
        *rules.falling(sampled),
        *rules.moving_without_push(sampled),
        *rules.steep(sampled),
        *rules.diverging(sampled),
        *rules.wrong_jumps(sampled, steps),
    ]
    if declaration is not None:
        asked = replace(asked, declared=declaration.error is None)
        if found and asked.declared:
            reason = "F = T∘P and B = T'∘P as declared, though F and B alone do not show it"
            P, T = declaration.prox, declaration.transform
            return replace(asked, legitimate=True, reason=reason, prox=P, transform=T)
    if found:
        decided = [f for f in found if f.decided]
        # The finding nearest to 0 decides; of two at the same distance, the right one.
        against = [f for f in decided if not f.by_convention] or decided or found
        first = min(against, key=lambda f: (round(min(map(abs, f.interval)), 12), -f.interval[1]))
        refused = replace(asked, reason=first.reason, interval=first.interval, by_convention=first.by_convention)
        if decided:
            return replace(refused, legitimate=False)
        return _on_known_part(asked, declaration, sampled, found, first) or refused
    stated = declaration.mesh if declaration is not None and asked.declared else None
    anchor = 0.0 if stated is None else float(middle_at_zero(stated, stated.values[0]))
    prox, transform = reconstruct(sampled, level, steps, anchor)
    reason = "F and B are functions of P = ∫dF/B, which never falls"
    if (convention := _only_by_convention(level, steps)) is not None:
        reason = f"{reason}; {convention.reason}"
        asked = replace(asked, interval=convention.interval, by_convention=True)
    if declaration is not None and declaration.error is not None:
        reason = f"{reason}; but {declaration.error}, so the pair is not the one that it declares"
    return replace(asked, legitimate=True, reason=reason, prox=prox, transform=transform)


def _on_known_part(
    asked: Verdict, declaration: Declaration | None, sampled: Sample, unknown: list[Finding], nearest: Finding
) -> Verdict | None:
    """Return the verdict on the x around 0 up to the places at which float64 cannot tell, if the pair is legitimate."""
    known = sampled.around_zero([finding.interval for finding in unknown])
    if known is None:
        return None
    low, high = known.mesh.ends
    verdict = _judged(replace(asked, domain=(low, high)), declaration, known)
    if not verdict.legitimate:
        return None
    if verdict.domain != (low, high):
        return verdict  # on a smaller part, which its reason names
    where, outside = f"For {low:.4g} < x < {high:.4g}", nearest.reason.partition(": ")[0]
    return replace(verdict, reason=f"{where}, {verdict.reason}; outside, {outside}")


def _only_by_convention(level: list[Plateau], steps: list[Jump]) -> Finding | None:
    """Find the first place at which a legitimate pair rests on the convention."""
    for jump in steps:
        B = (jump.before, jump.here, jump.after)
        if max(B) - min(B) > 1e-9 * max(map(abs, B)):
            values = f"{jump.before:.6g} before, {jump.here:.6g} at and {jump.after:.6g} after it"
            reason = f"at the jump at x = {jump.at.x:.6g} B is {values}, and the value at it counts"
            return Finding(reason, (jump.at.x, jump.at.x))
    for plateau in level:
        if len(plateau.stretches) > 1:
            return Finding("B is 0 between parts of a plateau of F, where P is free to move", plateau.interval)
    return None
