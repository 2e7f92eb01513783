"""A test of the P and T that a pair declares: P must not fall, and T' must be the derivative of T."""

from dataclasses import dataclass
from functools import cached_property

import torch

from proxconnect.pairs import Pair
from proxconnect.pairs.transform import FixedTransform
from proxconnect.theory.functions.blackbox import BlackBox
from proxconnect.theory.functions.mesh import Mesh, mesh, size_of
from proxconnect.theory.verdicts.curves import ProxCurve, nondecreasing

AGREEMENT = 1e-6
"""Greatest difference between T and the integral of T', relative to its size."""

SEEN = 1e-5
"""Least difference between two slopes that counts, relative to max(1, |T'|)."""


@dataclass(frozen=True)
class Declaration:
    """The P and T that a `Pair` declares, at the sharpness `mu` and for x in [low, high]; `error` tests them."""

    pair: Pair
    mu: float
    low: float
    high: float

    @property
    def transform(self) -> FixedTransform:
        """The declared T."""
        return FixedTransform(self.pair.transform, self.mu)

    @cached_property
    def mesh(self) -> Mesh:
        """The declared P, as values on a mesh of [low, high]."""
        prox = BlackBox("the declared prox", lambda x: self.pair.prox(x, self.mu))
        return mesh([prox], self.low, self.high)

    @property
    def prox(self) -> ProxCurve:
        """The declared P as a curve, with the regularizer r of which it is the prox."""
        return ProxCurve(self.mesh, nondecreasing(self.mesh.values[0]))

    @cached_property
    def error(self) -> str | None:
        """Text on the first test that fails (P never falls, F = T∘P, B = T'∘P, T' is the slope of T), or None."""
        fall = fall_of(self.mesh, "the declared prox")
        return fall or self._difference() or self._wrong_derivative() or self._wrong_where_P_rests()

    def _difference(self) -> str | None:
        x = self.mesh.x.flatten()
        p = self.pair.prox(x, self.mu)
        for name, part, declared in (
            ("F is not T", self.pair.forward(x, self.mu), self.transform(p)),
            ("B is not T'", self.pair.backward(x, self.mu), self.transform.derivative(p)),
        ):
            off = (part - declared).abs() > 1e-9 * declared.abs().clamp(min=1)
            if bool(off.any()):
                return f"{name}∘P at x = {float(x[off][0]):.6g}"
        return None

    def _wrong_derivative(self) -> str | None:
        p = self.mesh.values[0]
        low, high = float(p.min()), float(p.max())
        if low == high:
            return None
        boxes = [BlackBox("the declared T", self.transform), BlackBox("the declared T'", self.transform.derivative)]
        both = mesh(boxes, low, high)
        T, slope = both.values
        rise = T - T[:, :1]
        for leaf in (~both.smooth & (rise[:, -1].abs() > AGREEMENT)).nonzero().flatten().tolist():
            return f"the declared T jumps by {float(rise[leaf, -1]):.6g} at p = {float(both.high[leaf]):.6g}"
        off = torch.where(both.smooth, (rise - both.integrals(slope))[:, -1], 0.0)
        drift = off.cumsum(0)
        if float(drift.max() - drift.min()) > AGREEMENT * max(1.0, float(size_of(both.x, T))):
            leaf = int((off / both.width).abs().argmax())
            at, said, seen = (float(v[leaf]) for v in (both.low, slope.mean(1), rise[:, -1] / both.width))
            return f"the declared T' is {said:.6g} near p = {at:.6g}, where T has slope {seen:.6g}"
        return None

    def _wrong_where_P_rests(self) -> str | None:
        for p, slope, left, right in self.kinks_at_rest():
            slack = SEEN * max(1.0, abs(slope))
            if not min(left, right) - slack <= slope <= max(left, right) + slack:
                return (
                    f"P stays at p = {p:.6g}, where the declared T' is {slope:.4g} and T has slope {left:.4g} on the "
                    f"left and {right:.4g} on the right: state one of these, or a value between them"
                )
        return None

    def kinks_at_rest(self) -> list[tuple[float, float, float, float]]:
        """List (p, T'(p), left slope of T, right slope) where P stays at p and T' is not both of the slopes.

        P stays at its plateaus, and at both ends of its jumps. The slopes are found by finite differences.
        """
        p, smooth, T = self.mesh.values[0], self.mesh.smooth, BlackBox("the declared T", self.transform)
        flat = (p[:, 0] == p[:, -1]) & smooth
        jumps = ~smooth & ((p[:, -1] - p[:, 0]) > 1e-9)
        points = torch.unique(torch.cat([p[flat, 0], p[jumps, 0], p[jumps, -1]]))
        h, said = 1e-6 * points.abs().clamp(min=1.0), self.transform.derivative(points)
        left, right = ((4 * T(points + d) - T(points + 2 * d) - 3 * T(points)) / (2 * d) for d in (-h, h))
        off = torch.maximum((right - said).abs(), (left - said).abs()) > SEEN * said.abs().clamp(min=1)
        return list(zip(*(values[off].tolist() for values in (points, said, left, right)), strict=True))


def fall_of(leaves: Mesh, name: str) -> str | None:
    """Return text on where the first function of a mesh, called `name`, decreases beyond rounding; None if nowhere."""
    values, noise = leaves.values[0], leaves.noise()
    falls = (values.diff(dim=1) < -noise[:, None]).any(1) | (values[:, -1] < values[:, 0] - noise)
    for leaf in falls.nonzero().flatten().tolist():
        low, high = leaves.span(leaf, leaf)
        top, fall = float(values[leaf].max()), float(values[leaf].cummax(0).values.sub(values[leaf]).max())
        return f"{name} falls by {fall:.3g} from {top:.6g} between x = {low:.6g} and {high:.6g}"
    return None
