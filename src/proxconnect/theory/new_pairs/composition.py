"""New legitimate pairs and prox maps: (T∘P, T'∘P) from a transform T and a proximal P, and others from pairs."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from proxconnect._support.arguments import number, positive, require_type
from proxconnect.pairs import AnyPair, Heuristic, Pair, Prox, Sharpness, Transform, resolve
from proxconnect.pairs.part import Part, common_sharpness, widened
from proxconnect.pairs.probing import ProbeError
from proxconnect.pairs.prox import identity
from proxconnect.pairs.transform import Slope
from proxconnect.theory.functions.blackbox import Function, probed
from proxconnect.theory.functions.mesh import REACH, mesh
from proxconnect.theory.verdicts.declaration import Declaration, fall_of


@dataclass(frozen=True)
class CallableProx(Prox):
    """A `Prox` made of a callable of one tensor; P is NaN for NaN, whatever the callable returns."""

    function: Function

    def __call__(self, x: Tensor, mu: float | Tensor) -> Tensor:
        """Return P(x), the value of the callable at `x`; NaN for NaN. `mu` is ignored."""
        return torch.where(x.isnan(), x, self.function(x))


@dataclass(frozen=True)
class CallableTransform(Transform):
    """A `Transform` made of two callables of one tensor, T and T'; NaN stays NaN, whatever they return."""

    function: Function
    slopes: Function

    def __call__(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T(p), the value of `function` at `p`; NaN for NaN. `mu` is ignored."""
        return torch.where(p.isnan(), p, self.function(p))

    def derivative(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T'(p), the value of `slopes` at `p`; NaN for NaN. `mu` is ignored."""
        return torch.where(p.isnan(), p, self.slopes(p))


@dataclass(frozen=True)
class AutogradDerivative:
    """A callable that computes T' of an elementwise callable T by autograd; `torch.compile` and vmap can trace it."""

    function: Function

    def __call__(self, p: Tensor) -> Tensor:
        """Return T'(p), the derivative of the callable at each entry of `p`."""
        slope: Tensor = torch.func.grad(lambda points: self.function(points).sum())(p)
        return slope


def synthesize(
    transform: Transform | Function, prox: Prox | Function, name: str, derivative: Function | None = None
) -> Pair:
    """Make the legitimate pair F = T∘P, B = T'∘P.

    Args:
        transform: T, a `Transform` or an elementwise callable of one tensor that keeps shape and float dtype.
        prox: P, a `Prox` or such a callable; nondecreasing.
        name: the name of the pair.
        derivative: T' for a callable T, by default from autograd. You must give it if P jumps to a kink of T or is flat
            there, because autograd's choice at a kink is arbitrary.

    Raises:
        ValueError: the prox falls, the derivative is not that of T, or P rests at a kink of T without `derivative`.
        TypeError: an argument has another type, or `derivative` is given with a `Transform`, which has one.
        ProbeError: a callable is no elementwise function with finite values.

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
    is_by_autograd = derivative is None and not isinstance(transform, Transform)
    prox = _as_prox(prox)
    transform = transform if isinstance(transform, Transform) else _as_transform(transform, derivative)
    pair = Pair(name, prox, transform, doc=_pair_doc(name, "with T and P as given"))
    known = pair.sharpness
    for mu in [1.0] if known is None else [known.start, math.sqrt(known.start * known.end), known.end]:
        declared = Declaration(pair, mu, -REACH, REACH)
        for p, slope, left, right in declared.kinks_at_rest() if is_by_autograd else ():
            raise ValueError(
                f"P stays at p = {p:.6g}, where T has slope {left:.4g} on the left and {right:.4g} on the right "
                f"and autograd says {slope:.4g}: pass derivative=, a callable that states T' there"
            )
        if declared.error is not None:
            raise ValueError(f"pair {name!r} does not hold at μ = {mu:.4g}: {declared.error}")
    return pair


def _as_prox(prox: Prox | Function) -> Prox:
    """Return a callable of one tensor as a `Prox`; ValueError if it falls somewhere."""
    if isinstance(prox, Prox):
        return prox
    leaves = mesh([probed(prox, "prox", -REACH, REACH)], -REACH, REACH)
    if (fall := fall_of(leaves, "prox")) is not None:
        raise ValueError(f"{fall}, and a map that falls is the prox of nothing: give a nondecreasing one")
    return CallableProx(prox)


def _as_transform(function: Function, derivative: Function | None) -> Transform:
    probed(function, "transform", -REACH, REACH)
    slopes = AutogradDerivative(function) if derivative is None else derivative
    try:
        probed(slopes, "derivative", -REACH, REACH)
    except ProbeError as error:
        if derivative is not None:
            raise
        raise ProbeError(f"autograd has no derivative of this transform, so pass derivative=: {error}") from error
    return CallableTransform(function, slopes)


def _pair_doc(name: str, how: str) -> str:
    return f"{name}: F(x) = T(P(x)), B(x) = T'(P(x)), {how}. P is a prox, an argmin_z ½(z - x)² + r(z)."


class _Made(Part):
    """A map made of others, with the sharpness that all of them allow."""

    @property
    def sharpness(self) -> Sharpness | None:  # type: ignore[override]  # it follows from the parts
        """The range of μ of this map; None if none of the maps that it is made of depends on μ."""
        parts = [part for value in vars(self).values() for part in (value if isinstance(value, tuple) else [value])]
        return common_sharpness(part for part in parts if isinstance(part, Part))


@dataclass(frozen=True)
class Composed(_Made, Transform):
    """The transform T(p) = T₂(T₁(p)) of T₂ = `outer` and T₁ = `inner`, computed in float32 or wider."""

    outer: Transform
    inner: Transform

    @property
    def slope(self) -> Slope:  # type: ignore[override]  # it follows from the parts
        """The values of T': "one", "indicator" (0 and 1) or "any"; products of 0 and 1 are 0 and 1."""
        slopes = {self.outer.slope, self.inner.slope}
        return "any" if "any" in slopes else "indicator" if "indicator" in slopes else "one"

    def __call__(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T(p) = T₂(T₁(p)), with the shape and dtype of `p`."""
        return self.outer(self.inner(widened(p), mu), mu).to(p.dtype)  # rounding of T₁ decides at a jump of T₂'

    def derivative(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T'(p) = T₂'(T₁(p))·T₁'(p), with the shape and dtype of `p`."""
        wide = widened(p)
        return (self.outer.derivative(self.inner(wide, mu), mu) * self.inner.derivative(wide, mu)).to(p.dtype)


@dataclass(frozen=True)
class Rescaled(_Made, Transform):
    """The transform T(p) = outer·T₁(inner·p) made of a transform T₁, with T'(p) = outer·inner·T₁'(inner·p)."""

    transform: Transform
    outer: float = 1.0
    inner: float = 1.0

    def __call__(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T(p) = outer·T₁(inner·p), with the shape and dtype of `p`."""
        return self.outer * self.transform(self.inner * p, mu)

    def derivative(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T'(p) = outer·inner·T₁'(inner·p), with the shape and dtype of `p`."""
        return (self.outer * self.inner) * self.transform.derivative(self.inner * p, mu)


@dataclass(frozen=True)
class RescaledProx(_Made, Prox):
    """The prox P(x) = P₁(c·x)/c = argmin_z ½(z - x)² + r₁(c·z)/c², made of the prox P₁ of r₁; c = `inner` > 0."""

    prox: Prox
    inner: float

    def __call__(self, x: Tensor, mu: float | Tensor) -> Tensor:
        """Return P(x) = P₁(c·x)/c, with the shape and dtype of `x`."""
        return self.prox(self.inner * x, mu) / self.inner

    def regularizer(self, z: Tensor, mu: float | Tensor) -> Tensor:
        """Return r(z) = r₁(c·z)/c², made of the regularizer r₁ of the original prox."""
        return self.prox.regularizer(self.inner * z, mu) / self.inner**2


@dataclass(frozen=True)
class Average(_Made, Prox):
    """The prox P = Σ λᵢPᵢ of prox maps Pᵢ with `weights` λ ≥ 0 and Σλ = 1.

    Its r is the proximal average of the rᵢ. Source: Bauschke, Goebel, Lucet, Wang 2008 (SIAM J. Optim. 19(2)).
    """

    proxes: tuple[Prox, ...]
    weights: tuple[float, ...]

    def __call__(self, x: Tensor, mu: float | Tensor) -> Tensor:
        """Return P(x) = Σ λᵢPᵢ(x), the weighted mean of the prox maps at `x` and `mu`."""
        terms = (weight * prox(x, mu) for weight, prox in zip(self.weights, self.proxes, strict=True))
        return reduce(torch.add, terms)


def compose(transform: Transform, pair: str | Pair, name: str | None = None) -> Pair:
    """Make the legitimate pair F = T₂∘F₁, B = (T₂'∘F₁)·B₁ of a transform T₂ and a legitimate pair (F₁, B₁).

    Args:
        transform: T₂.
        pair: the pair of F₁ and B₁, or its name in `PAIRS`.
        name: the name of the new pair, by default the type of the transform, ∘ and the name of the pair.

    Raises:
        TypeError: `transform` is no `Transform`, `pair` neither a `Pair` nor the name of one, or `name` no string.
        ValueError: the name is unknown.
    """
    if not isinstance(transform, Transform):
        raise TypeError(
            f"compose takes a Transform; got {type(transform).__name__}: take that of a pair, as in "
            "synthesize(function, prox.identity, name).transform"
        )
    pair = _decomposed(pair, "compose")
    name = f"{type(transform).__name__}∘{pair.name}" if name is None else name
    doc = _pair_doc(name, f"T = T₂∘T₁ with T₁ and P of {pair.name}")
    return Pair(name, pair.prox, Composed(transform, pair.transform), doc)


def average(proxes: Sequence[Prox | Function], weights: Sequence[float] | None = None) -> Prox:
    """Return a convex combination of prox maps, which is a prox, too.

    Args:
        proxes: prox maps, or nondecreasing elementwise callables of one tensor.
        weights: a number ≥ 0 for each map, with sum 1. By default the result is the mean.

    Raises:
        ValueError: a callable falls or is no function of one variable, `proxes` is empty, or the weights do not fit.
        TypeError: an argument has another type.

    Example:
        >>> from proxconnect import theory
        >>> prox = theory.average([pc.PAIRS["bc"].prox, pc.PAIRS["fp"].prox])
        >>> prox(torch.tensor([0.5, -2.0]), 1.0)
        tensor([ 0.7500, -1.5000])
    """
    require_type(proxes, Iterable, "proxes takes a list of prox maps")
    proxes = tuple(proxes)
    if not proxes:
        raise ValueError("average takes at least one prox")
    if weights is None:
        weights = [1 / len(proxes)] * len(proxes)
    require_type(weights, Iterable, "weights takes a list of numbers")
    weights = tuple(number(weight, "weights") for weight in weights)
    if len(weights) != len(proxes) or min(weights) < 0 or not math.isclose(sum(weights), 1.0, abs_tol=1e-12):
        raise ValueError(f"average needs a weight ≥ 0 for each of {len(proxes)} maps, with sum 1; got {list(weights)}")
    return Average(tuple(map(_as_prox, proxes)), weights)


def rescale(pair: str | Pair, *, inner: float = 1.0, outer: float = 1.0, name: str | None = None) -> Pair:
    """Make the legitimate pair F(x) = outer·F₁(inner·x), B(x) = outer·inner·B₁(inner·x) of a legitimate (F₁, B₁).

    Its T(p) is outer·T₁(inner·p). Its P(x) is P₁(inner·x)/inner, the prox of r₁(inner·z)/inner².

    Args:
        pair: the pair of F₁ and B₁, or its name in `PAIRS`.
        inner: a finite factor > 0 of the input.
        outer: a finite factor of the output, not 0.
        name: the name of the new pair, by default made of the factors and the name of the pair.

    Raises:
        TypeError: `pair` is neither a `Pair` nor the name of one, or another argument has another type.
        ValueError: the name is unknown, or `inner` or `outer` is out of range.
    """
    pair = _decomposed(pair, "rescale")
    inner, outer = positive(inner, "inner"), number(outer, "outer")
    if not math.isfinite(outer) or outer == 0:
        raise ValueError(f"outer must be finite and not 0; got {outer:g}")
    name = f"{outer:g}·{pair.name}({inner:g}x)" if name is None else name
    doc = _pair_doc(name, f"{outer:g} times the F of {pair.name} at {inner:g} times x")
    prox = pair.prox if pair.prox == identity else RescaledProx(pair.prox, inner)  # which stays known as the identity
    return Pair(name, prox, Rescaled(pair.transform, outer, inner), doc)


def _decomposed(given: str | AnyPair, law: str) -> Pair:
    """Return the pair, by name from `PAIRS`; TypeError if it has no decomposition."""
    if isinstance(given, str | Pair | Heuristic) and isinstance(pair := resolve(given), Pair):
        return pair
    raise TypeError(f"{law} takes a Pair or its name; got {given!r}: theory.correct makes a Pair of a heuristic")
