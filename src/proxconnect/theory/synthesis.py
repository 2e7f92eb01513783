"""The recipe's synthesis: a transform T and a proximal P make the pair (T∘P, T'∘P)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from proxconnect.pairs import Pair, Prox, Sharpness, Transform
from proxconnect.theory.blackbox import BlackBox, Function, ProbeError, probed
from proxconnect.theory.declaration import Declaration, fall_of
from proxconnect.theory.mesh import mesh

REACH = 1000.0
"""P and T are looked at on [-REACH, REACH]."""

SEEN = 1e-5
"""By how much slopes must differ to be told apart, relative to max(1, |T'|)."""


@dataclass(frozen=True)
class CallableProx(Prox):
    """A callable of one tensor as P; NaN stays NaN, whatever it makes of it."""

    function: Function

    def __call__(self, x: Tensor, mu: float | Tensor) -> Tensor:
        """The callable's value."""
        return torch.where(x.isnan(), x, self.function(x))


@dataclass(frozen=True)
class CallableTransform(Transform):
    """A callable of one tensor as T, and another as T'; NaN stays NaN, whatever they make of it."""

    function: Function
    slopes: Function

    def __call__(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """T(p)."""
        return torch.where(p.isnan(), p, self.function(p))

    def derivative(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """T'(p)."""
        return torch.where(p.isnan(), p, self.slopes(p))


@dataclass(frozen=True)
class AutogradDerivative:
    """The derivative of an elementwise callable by autograd."""

    function: Function

    def __call__(self, p: Tensor) -> Tensor:
        """T'(p)."""
        value, pull = torch.func.vjp(self.function, p)[:2]
        slope: Tensor = pull(torch.ones_like(value))[0]
        return slope


def synthesize(
    transform: Transform | Callable[[Tensor], Tensor],
    prox: Prox | Callable[[Tensor], Tensor],
    name: str,
    derivative: Callable[[Tensor], Tensor] | None = None,
) -> Pair:
    """The legitimate pair F = T∘P, B = T'∘P.

    Args:
        transform: T, a `Transform` or a callable of one tensor that acts on each entry and keeps shape and float dtype.
        prox: P, a `Prox` or such a callable; nondecreasing.
        name: of the pair.
        derivative: T' for a callable T. None takes autograd's, which is arbitrary at a kink of T: where P jumps to one
            or is flat onto it, so that the choice decides what is trained, it must be given.

    Raises:
        ValueError: a prox that falls, a derivative that is not that of T, or a kink of T at a point where P stays and
            autograd has to choose. TypeError: a derivative beside a `Transform`, which has its own.
        ProbeError: a callable that is no function of one variable.
    """
    if isinstance(transform, Transform) and derivative is not None:
        raise TypeError("a Transform has a derivative of its own: pass derivative= with a callable only")
    checked_prox = as_prox(prox)
    if not isinstance(transform, Transform):
        transform = _as_transform(transform, derivative, checked_prox)
    pair = Pair(name, checked_prox, transform, doc=_doc(name))
    for mu in _sharpnesses(pair.sharpness):
        if (error := Declaration(pair, mu, -REACH, REACH).error) is not None:
            raise ValueError(f"pair {name!r} does not hold at μ = {mu:.4g}: {error}")
    return pair


def as_prox(prox: Prox | Callable[[Tensor], Tensor]) -> Prox:
    """A callable of one tensor as a `Prox`; ValueError, naming where, unless it is nondecreasing."""
    if isinstance(prox, Prox):
        return prox
    of = mesh([probed(prox, "prox", -REACH, REACH)], -REACH, REACH)
    if (fall := fall_of(of, "prox")) is not None:
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
    points = torch.cat([_resting_points(prox, mu) for mu in _sharpnesses(prox.sharpness)])
    behind, ahead = _one_sided(box, points)
    if derivative is None:
        _require_smooth(points, behind, ahead, slopes(points))
    else:
        _require_between(points, behind, ahead, slopes(points))
    return CallableTransform(function, slopes)


def _sharpnesses(known: Sharpness | None) -> list[float]:
    """The usual start, middle and end."""
    return [1.0] if known is None else [known.start, math.sqrt(known.start * known.end), known.end]


def _resting_points(prox: Prox, mu: float) -> Tensor:
    """Where P stays: the values of its plateaus and the ends of its jumps."""
    of = mesh([BlackBox("prox", lambda x: prox(x, mu))], -REACH, REACH)
    p = of.values[0]
    flat = (p[:, 0] == p[:, -1]) & of.smooth
    jumps = ~of.smooth & ((p[:, -1] - p[:, 0]) > 1e-9)
    points: Tensor = torch.unique(torch.cat([p[flat, 0], p[jumps, 0], p[jumps, -1]]))
    return points


def _one_sided(T: BlackBox, points: Tensor) -> tuple[Tensor, Tensor]:
    """The slopes of T on the left and on the right of points (n,), by differences of second order."""
    h = 1e-6 * points.abs().clamp(min=1.0)
    left, right = (
        side * (4 * T(points + side * h) - T(points + 2 * side * h) - 3 * T(points)) / (2 * h) for side in (-1.0, 1.0)
    )
    return left, right


def _require_smooth(points: Tensor, behind: Tensor, ahead: Tensor, said: Tensor) -> None:
    """Raise ValueError at a point where autograd's T' is not the slope of T on both sides."""
    off = torch.maximum((ahead - said).abs(), (behind - said).abs()) > SEEN * said.abs().clamp(min=1)
    for i in off.nonzero().flatten().tolist():
        raise ValueError(
            f"P stays at p = {float(points[i]):.6g}, where T has slope {float(behind[i]):.4g} on the left and "
            f"{float(ahead[i]):.4g} on the right and autograd says {float(said[i]):.4g}: pass derivative=, a callable "
            "that states T' there"
        )


def _require_between(points: Tensor, behind: Tensor, ahead: Tensor, said: Tensor) -> None:
    """Raise ValueError at a point where a stated T' is none of the slopes between those of both sides."""
    slack = SEEN * said.abs().clamp(min=1)
    off = (said < torch.minimum(behind, ahead) - slack) | (said > torch.maximum(behind, ahead) + slack)
    for i in off.nonzero().flatten().tolist():
        raise ValueError(
            f"P stays at p = {float(points[i]):.6g}, where derivative says {float(said[i]):.4g} and T has slope "
            f"{float(behind[i]):.4g} on the left and {float(ahead[i]):.4g} on the right: state one of these, or a "
            "value between them"
        )


def _doc(name: str) -> str:
    return f"""{name}: F(x) = T(P(x)), B(x) = T'(P(x)).

    P is a prox, an argmin_z ½(z - x)² + r(z), and T a transform of its own.
    """
