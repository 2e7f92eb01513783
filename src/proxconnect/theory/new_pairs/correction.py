"""Correction: keep a backward B that you like, and take F(x) = ∫₀ˣ B, so that P is the identity."""

import warnings
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from proxconnect._support.arguments import boolean
from proxconnect.pairs import AnyPair, Heuristic, Pair, Sharpness, Transform, resolve
from proxconnect.pairs.pair import FixedMap, MethodMap
from proxconnect.pairs.part import widened
from proxconnect.theory.functions.blackbox import BlackBox, Function, probed
from proxconnect.theory.functions.interpolant import Half, Interpolant, fit, hermite, interpolant
from proxconnect.theory.functions.mesh import Mesh, TooRoughError, last_coefficients, mesh
from proxconnect.theory.new_pairs.composition import Rescaled

FAR = 1e6
"""B is integrated over [-FAR, FAR] at μ = 1, and constant beyond."""

NEARER = (1e5, 1e4, 3e3, 1e3, 300.0, 100.0, 30.0, 10.0)
"""The places from which on B is constant instead if it varies too often up to `FAR`."""

FADED = 0.1
"""B has faded where the outer half of its reach adds less than this share of the inner half to F."""

NEAR_SIGN = 0.01
"""F may end this far from ±1 without a warning."""

USUAL = Sharpness(lowest=0.0, start=0.1, end=30.0)
"""The range of μ for a B without one."""


class UnboundedForwardWarning(UserWarning):
    """A warning of `correct`: F ends more than 0.01 from ±1, so sharpening the pair does not lead to signs."""


@dataclass(frozen=True)
class Sharpened(Transform):
    """The transform T_μ(p) = T(μp), T'_μ(p) = μT'(μp) made of a T without sharpness, computed in float32 or wider."""

    transform: Transform
    sharpness: Sharpness | None = USUAL

    def __call__(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T_μ(p) = T(μp), with the shape and dtype of `p`."""
        return self.transform(mu * widened(p), 1.0).to(p.dtype)

    def derivative(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T'_μ(p) = μT'(μp), with the shape and dtype of `p`."""
        return (mu * self.transform.derivative(mu * widened(p), 1.0)).to(p.dtype)


@dataclass(frozen=True)
class Antiderivative(Transform):
    """The transform T(p) = ∫₀ᵖ B with T' = B, from a table of cubics.

    `error` estimates the largest error of T in float64, relative to max(1, |T|). Beyond ±`reach`, T' has the values
    `beyond`, on the left and on the right.
    """

    backward: Function
    reach: float
    beyond: tuple[float, float]
    table: Interpolant = field(repr=False, compare=False)
    error: float = field(compare=False)

    def __call__(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T(p) from the table, with the shape and dtype of `p`; `mu` is ignored."""
        return self.table(p)

    def derivative(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T'(p), with the shape and dtype of `p`: B(p), but `beyond` outside ±`reach`; `mu` is ignored."""
        wide = widened(p)
        slope = self.backward(wide.clamp(-self.reach, self.reach))
        slope = torch.where(wide < -self.reach, self.beyond[0], torch.where(wide > self.reach, self.beyond[1], slope))
        return torch.where(p.isnan(), p, slope.to(p.dtype))


def correct(backward: str | Heuristic | Function, name: str | None = None, *, normalise: bool = False) -> Pair:
    """Make the legitimate pair that keeps B and takes F(x) = ∫₀ˣ B: P is the identity, T = F.

    If B is the derivative of a known transform, the pair gets that transform: bnn+, poly, ede and erf become bnn++,
    poly+, ede+ and erf+. Any other B is integrated into a table of cubics, an `Antiderivative` within `pair.transform`,
    whose `error` estimates its error. A B without sharpness gets one: F_μ(x) = F(μx), B_μ(x) = μB(μx).

    Bumps of B narrower than 1/2000 of max(1, |x|) may be missed. B that varies too often for a table up to ±1e6, as
    waves do, is kept up to a smaller |μx|, constant beyond, and causes a warning.

    Args:
        backward: a `Heuristic` or its name in `PAIRS`; or B, an elementwise callable of one tensor that keeps shape and
            float dtype. In training it gets float32 or wider, within ±1e6.
        name: the name of the pair; by default that of the heuristic or the callable, and a +.
        normalise: divide F and B by a constant so that F tends to ±1. Without it, an F that does not causes an
            `UnboundedForwardWarning`, since sharpening such a pair makes no signs.

    Raises:
        ProbeError: a callable is no elementwise function with finite values.
        ValueError: the name is unknown, B_μ of a heuristic without known transform is not μB(μx), F cannot be
            normalised, or B is too rough for a table, which would err by more than 1e-6.
        TypeError: `backward` is a `Pair` or its name, or an argument has another type.

    Example:
        >>> from proxconnect import theory
        >>> pair = theory.correct(lambda x: (1 - x.abs()).clamp(min=0), "triangle", normalise=True)
        >>> pair.forward(torch.tensor([-2.0, 0.5]), 1.0)
        tensor([-1.0000,  0.7500])
        >>> theory.decompose(pair, mu=1.0).legitimate
        True
    """
    normalise = boolean(normalise, "normalise")
    given: AnyPair | Function = resolve(backward) if isinstance(backward, str) else backward
    if isinstance(given, Pair):
        raise TypeError(f"pair {given.name!r} is legitimate and needs no correction; pass its backward to take F = ∫B")
    if not (isinstance(given, Heuristic) or callable(given)):
        raise TypeError(f"correct takes a Heuristic, its name or a callable of one tensor; got {type(given).__name__}")
    transform = _of_heuristic(given) if isinstance(given, Heuristic) else Sharpened(antiderivative(given))
    known_as = given.name if isinstance(given, Heuristic) else getattr(given, "__name__", "corrected")
    name = f"{known_as}+" if name is None else name
    _warn_of_reach(transform, name)
    transform = _towards_signs(transform, name, normalise)
    how = "T = F and P is the identity, argmin_z ½(z - x)². The correction of arXiv 2402.17710."
    return Pair(name, transform=transform, doc=f"{name}: F(x) = ∫₀ˣ B, with the B of {known_as}.\n\n{how}")


def antiderivative(backward: Function) -> Antiderivative:
    """Make the transform T(p) = ∫₀ᵖ B of an elementwise B, from a table that errs by at most 1e-6·max(1, |T|).

    The table ends at ±`FAR`, or at one of `NEARER` if B is too rough up to there; T' is constant beyond.
    TooRoughError if every table fails, ProbeError if B is no elementwise function with finite values.
    """
    box = probed(backward, "backward", -FAR, FAR)
    try:
        return _tabulated(box, FAR)
    except TooRoughError:
        advice = "smooth it, or give F in closed form, synthesize(F, prox.identity, name, derivative=backward)"
        try:
            mesh([box], -NEARER[-1], NEARER[-1])  # if this fails, the others do, too
            for reach in NEARER[:-1]:
                with suppress(TooRoughError):
                    return _tabulated(box, reach)
            return _tabulated(box, NEARER[-1])
        except TooRoughError as error:
            raise TooRoughError(f"{error}: {advice}") from None


def _tabulated(box: BlackBox, reach: float) -> Antiderivative:
    """Tabulate T(p) = ∫₀ᵖ B on [-reach, reach]; TooRoughError if the table would be too large or err by over 1e-6."""
    leaves = mesh([box], -reach, reach)
    while len(points := _overlooked(box, leaves)):
        leaves = mesh([box], -reach, reach, points)
    # The breaks add nothing to the integral ∫₀ B, and their whole size to its error. Both are summed away from 0.
    gained = torch.where(leaves.smooth[:, None], leaves.integrals(leaves.values[0]), 0.0)
    ends, is_right = gained[:, -1], leaves.low >= 0
    start = torch.where(is_right, (ends * is_right).cumsum(0) - ends, -(ends * ~is_right).flip(0).cumsum(0).flip(0))
    whole = gained + start[:, None]
    size, last = leaves.values[0].abs().amax(1), last_coefficients(leaves.values[0])
    doubt = leaves.width * torch.where(leaves.smooth, 8 * torch.maximum(torch.finfo(size.dtype).eps * size, last), size)
    doubt = torch.where(is_right, (doubt * is_right).cumsum(0), (doubt * ~is_right).flip(0).cumsum(0).flip(0))
    blur = float((doubt / whole.abs().amax(1).clamp(min=1.0)).max())
    beyond = _slopes_beyond(box, leaves, whole)
    lasts = ((float(whole[0, 0]), -beyond[0]), (float(whole[-1, -1]), beyond[1]))
    (left, left_error), (right, right_error) = (
        _side(leaves, whole, box, side, last) for side, last in zip((-1.0, 1.0), lasts, strict=True)
    )
    error = 1.05 * max(left_error, right_error) + blur  # 5 % more between the points that were looked at
    if error > 1e-6:
        raise TooRoughError(f"{box.name} is too rough to integrate, the table errs by {error:.1g}")
    return Antiderivative(box.function, reach, beyond, interpolant(right, left), error)


def _overlooked(box: BlackBox, leaves: Mesh) -> list[float]:
    """Return points between the nodes of wide leaves at which B is not what the leaf says, as on a narrow bump."""
    wide = leaves.smooth & (leaves.width > leaves.x.abs().amax(1).clamp(min=1) / 1000)
    x = leaves.low[wide, None] + leaves.width[wide, None] * torch.arange(1, 64, dtype=torch.float64) / 64
    x = x.flatten()
    values = box(x)
    off = (values - leaves.interpolate(leaves.values[0], x)).abs()
    found: list[float] = x[off > 1e-9 * leaves.values[0].abs().max().clamp(min=1.0)].tolist()
    return found


def _slopes_beyond(box: BlackBox, leaves: Mesh, whole: Tensor) -> tuple[float, float]:
    """Return the values of T' beyond both ends of `leaves`, from T at their nodes, `whole`."""
    ends = torch.tensor(leaves.ends, dtype=torch.float64)
    if leaves.ends[1] == FAR:
        values = box(ends)
        left, right = torch.where(values.abs() < 1e-10, 0.0, values).tolist()  # a smaller |B| has vanished
        return left, right
    T, half = (leaves.interpolate(whole, x) for x in (ends, ends / 2))
    gain = torch.where((T - half).abs() < FADED * half.abs(), 0.0, T - half)  # of the outer half
    left, right = (gain / (ends / 2) + 0.0).tolist()  # no -0
    return left, right


def _side(leaves: Mesh, whole: Tensor, box: BlackBox, side: float, last: tuple[float, float]) -> tuple[Half, float]:
    """Return the table of one side of 0, straight beyond `leaves` with this value and slope, and its error."""
    F = partial(leaves.interpolate, whole)
    near, far = leaves.away_from_zero(side)
    half, error = fit(near, far, lambda a, b: hermite(F(a), F(b), box(a), box(b), b - a), F, tolerance=1e-12)
    beyond = half.c.new_tensor([[*last, 0.0, 0.0]])
    return Half(torch.cat([half.start, beyond.new_tensor([leaves.ends[1]])]), torch.cat([half.c, beyond])), error


def _of_heuristic(heuristic: Heuristic) -> Transform:
    """Return the transform whose derivative is the heuristic's B."""
    B = heuristic.backward_map
    fixed, B = (B.mu, B.map) if isinstance(B, FixedMap) else (None, B)
    if isinstance(B, MethodMap) and B.method == "derivative" and isinstance(B.owner, Transform):
        owner = B.owner if fixed is None else B.owner.at(fixed)
        return owner if owner.sharpness is not None else Sharpened(owner)
    x = torch.linspace(-3, 3, 241, dtype=torch.float64)
    known = heuristic.sharpness
    for mu in (mu for mu in (0.1, 0.5, 2.0, 5.0) if known is not None and known.contains(mu)):
        expected = mu * heuristic.backward_map(mu * x, 1.0)
        if not torch.allclose(heuristic.backward_map(x, mu), expected, rtol=1e-9, atol=1e-12):
            raise ValueError(
                f"the backward of {heuristic.name!r} is not μB(μx), so that one table cannot serve every μ: correct it "
                f"at one sharpness, correct(pair.at({mu:g})), or give F_μ as a Transform with this derivative"
            )
    moving = USUAL if known is None else replace(known, fixed=None)  # F must become sharp
    return Sharpened(antiderivative(FixedMap(heuristic.backward_map, 1.0)), moving)


def _warn_of_reach(transform: Transform, name: str) -> None:
    """Warn if T' is not B up to `FAR`."""
    table = transform.transform if isinstance(transform, Sharpened) else transform
    if isinstance(table, Antiderivative) and table.reach < FAR:
        warnings.warn(
            f"the backward of {name!r} varies too often to tabulate F up to ±{FAR:g}: the pair has it for "
            f"|μx| ≤ {table.reach:g}, and a constant beyond. If you need more, give F in closed form, "
            "synthesize(F, prox.identity, name, derivative=backward)",
            stacklevel=3,
        )


def _towards_signs(transform: Transform, name: str, normalise: bool) -> Transform:
    """Divide the transform by its limit if `normalise` asks for it, or warn if it ends far from ±1."""
    ends = transform(torch.tensor([-FAR, FAR, 2 * FAR], dtype=torch.float64), 1.0) + 0.0  # no -0
    left, right, farther = ends.tolist()
    if normalise:
        limit = (right - left) / 2
        if limit <= 0 or abs(farther - right) > NEAR_SIGN * limit or abs(left + right) > NEAR_SIGN * limit:
            raise ValueError(f"the F of {name!r} goes from {left:.4g} to {right:.4g}: no constant makes its limits ±1")
        return transform if limit == 1 else Rescaled(transform, outer=1 / limit)
    miss = max(abs(right - 1), abs(left + 1))
    if miss > NEAR_SIGN:
        warnings.warn(
            f"the F of {name!r} ends at {left:.4g} and {right:.4g} and misses ±1 by {miss:.3g}, so that sharpening it "
            "makes no signs; normalise=True divides F and B by a constant where that helps",
            UnboundedForwardWarning,
            stacklevel=3,
        )
    return transform
