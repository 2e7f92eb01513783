"""Synthesis: a transform T and a proximal P make the pair (T∘P, T'∘P)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from proxconnect.pairs import Pair, Prox, Sharpness, Transform
from proxconnect.theory.functions.blackbox import BlackBox, Function, ProbeError, probed
from proxconnect.theory.functions.mesh import REACH, mesh
from proxconnect.theory.verdicts.declaration import SEEN, Declaration, fall_of, one_sided_slopes, resting_points


@dataclass(frozen=True)
class CallableProx(Prox):
    """A callable of one tensor as P; NaN stays NaN, whatever the callable returns."""

    function: Function

    def __call__(self, x: Tensor, mu: float | Tensor) -> Tensor:
        """Return P(x)."""
        return torch.where(x.isnan(), x, self.function(x))


@dataclass(frozen=True)
class CallableTransform(Transform):
    """Callables of one tensor as T and as T'; NaN stays NaN, whatever they return."""

    function: Function
    slopes: Function

    def __call__(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T(p)."""
        return torch.where(p.isnan(), p, self.function(p))

    def derivative(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T'(p)."""
        return torch.where(p.isnan(), p, self.slopes(p))


@dataclass(frozen=True)
class AutogradDerivative:
    """The derivative of an elementwise callable by autograd, in a form that `torch.compile` and vmap take."""

    function: Function

    def __call__(self, p: Tensor) -> Tensor:
        """Return T'(p)."""
        slope: Tensor = torch.func.grad(lambda points: self.function(points).sum())(p)
        return slope


def synthesize(
    transform: Transform | Callable[[Tensor], Tensor],
    prox: Prox | Callable[[Tensor], Tensor],
    name: str,
    derivative: Callable[[Tensor], Tensor] | None = None,
) -> Pair:
    """Make the legitimate pair F = T∘P, B = T'∘P.

    Args:
        transform: T, a `Transform` or an elementwise callable of one tensor that keeps shape and float dtype.
        prox: P, a `Prox` or such a callable; nondecreasing.
        name: the name of the pair.
        derivative: T' for a callable T, by default from autograd. You must give it if P jumps to a kink of T or is flat
            there: autograd's choice at a kink is arbitrary, and would decide what is trained.

    Raises:
        ValueError: the prox falls, the derivative is not that of T, or P rests at a kink of T without `derivative`.
        TypeError: `derivative` is given with a `Transform`, which has one.
        ProbeError: a callable is no function of one variable.

    Example:
        >>> from proxconnect import theory
        >>> pair = theory.synthesize(torch.tanh, lambda x: x.clamp(-1, 1), "tanh")
        >>> pair.forward(torch.tensor([0.5, 2.0]), 1.0)
        tensor([0.4621, 0.7616])
        >>> pair.backward(torch.tensor([0.5, 2.0]), 1.0)  # T'(P(x))
        tensor([0.7864, 0.4200])
    """
    if isinstance(transform, Transform) and derivative is not None:
        raise TypeError("a Transform has a derivative of its own: pass derivative= with a callable only")
    checked_prox = as_prox(prox)
    if not isinstance(transform, Transform):
        transform = _as_transform(transform, derivative, checked_prox)
    pair = Pair(name, checked_prox, transform, doc=pair_doc(name, "with T and P as given"))
    for mu in _sharpnesses(pair.sharpness):
        if (error := Declaration(pair, mu, -REACH, REACH).error) is not None:
            raise ValueError(f"pair {name!r} does not hold at μ = {mu:.4g}: {error}")
    return pair


def as_prox(prox: Prox | Callable[[Tensor], Tensor]) -> Prox:
    """Return a callable of one tensor as a `Prox`; ValueError if it falls somewhere."""
    if isinstance(prox, Prox):
        return prox
    leaves = mesh([probed(prox, "prox", -REACH, REACH)], -REACH, REACH)
    if (fall := fall_of(leaves, "prox")) is not None:
        raise ValueError(f"{fall}, and a map that falls is the prox of nothing: give a nondecreasing one")
    return CallableProx(prox)


def _as_transform(function: Function, derivative: Function | None, prox: Prox) -> Transform:
    box = probed(function, "transform", -REACH, REACH)
    slopes = AutogradDerivative(function) if derivative is None else derivative
    try:
        probed(slopes, "derivative", -REACH, REACH)
    except ProbeError as error:
        if derivative is not None:
            raise
        raise ProbeError(f"autograd has no derivative of this transform, so pass derivative=: {error}") from error
    if derivative is None:
        for mu in _sharpnesses(prox.sharpness):
            _require_smooth(box, slopes, resting_points(mesh([BlackBox("prox", partial(prox, mu=mu))], -REACH, REACH)))
    return CallableTransform(function, slopes)


def _sharpnesses(known: Sharpness | None) -> list[float]:
    """Return the usual start, middle and end."""
    return [1.0] if known is None else [known.start, math.sqrt(known.start * known.end), known.end]


def _require_smooth(T: BlackBox, derivative: Function, points: Tensor) -> None:
    """Raise ValueError at a point at which autograd's T' is not the slope of T on both sides."""
    behind, ahead = one_sided_slopes(T, points)
    said = derivative(points)
    off = torch.maximum((ahead - said).abs(), (behind - said).abs()) > SEEN * said.abs().clamp(min=1)
    for p, left, right, slope in zip(*(v[off].tolist() for v in (points, behind, ahead, said)), strict=True):
        raise ValueError(
            f"P stays at p = {p:.6g}, where T has slope {left:.4g} on the left and {right:.4g} on the right and "
            f"autograd says {slope:.4g}: pass derivative=, a callable that states T' there"
        )


def pair_doc(name: str, how: str) -> str:
    """Describe a pair that is made of a transform and a prox."""
    return f"""{name}: F(x) = T(P(x)), B(x) = T'(P(x)), {how}.

    P is a prox, an argmin_z ½(z - x)² + r(z).
    """
