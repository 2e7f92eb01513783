"""Potentials Φ = ½z² + r of a prox, whose minimiser is the prox point: P(x) = argmin_z Φ(z) - xz."""

from dataclasses import dataclass

import torch
from torch import Tensor

from proxconnect._support.arguments import number, positive, require_type
from proxconnect.pairs import Pair, Prox
from proxconnect.theory.functions.blackbox import Function
from proxconnect.theory.functions.mesh import REACH
from proxconnect.theory.verdicts.curves import ProxCurve
from proxconnect.theory.verdicts.declaration import Declaration, fall_of


class NotProximalError(ValueError):
    """The error for a map that decreases somewhere, so that it is no prox; the message says where."""


@dataclass(frozen=True, eq=False)
class Integrated:
    """The potential Φ(z) = ½z² + r(z) of a P on a mesh, with r = ∫(P⁻¹ - id) found by integration."""

    curve: ProxCurve

    def __call__(self, z: Tensor) -> Tensor:
        """Return Φ(z), with the shape and dtype of `z`; +∞ outside the domain of r, NaN beyond the values of P."""
        return 0.5 * z.square() + self.curve.regularizer(z)


def potential(prox: Prox, mu: float = 1.0, reach: float = REACH) -> Function:
    """Return the potential Φ(z) = ½z² + r(z) of a prox P at sharpness `mu`: P(x) minimises Φ(z) - xz.

    Φ is a function of float64 tensors of any shape, and +∞ outside its domain; NaN stays NaN. It uses
    `prox.regularizer` if the prox states it. If not, P is integrated, with an error below 1e-9 within ±4 if it is
    smooth between its jumps. An integrated Φ is affine inside a gap of the range of P, +∞ beyond a range that ends in a
    plateau, and NaN beyond the values that P reaches. The two ways may differ by a constant and inside gaps.

    Args:
        prox: P.
        mu: the sharpness; ignored by a P that does not depend on it.
        reach: P is integrated on [-reach, reach].

    Raises:
        NotProximalError: a P to integrate falls somewhere.
        ProbeError: a P to integrate gives no finite float64 values.
        TooRoughError: a P to integrate has more jumps and kinks than can be told apart.
        ValueError: `mu` is outside the domain of P, or `reach` is not positive and finite.
        TypeError: `prox` is no `Prox`, or `mu` or `reach` no number.
    """
    require_type(prox, Prox, "potential takes a Prox, as that of a pair, PAIRS['bnn'].prox")
    mu = number(mu, "mu") if prox.sharpness is None else prox.sharpness.require(mu, repr(prox))
    reach = positive(reach, "reach")
    try:
        prox.regularizer(torch.zeros(1, dtype=torch.float64), mu)
    except NotImplementedError:
        declared = Declaration(Pair(repr(prox), prox), mu, -reach, reach)
        if (fall := fall_of(declared.mesh, "P")) is not None:
            raise NotProximalError(f"{fall}: it is the prox of nothing, since those maps are nondecreasing") from None
        return Integrated(declared.prox)
    return lambda z: 0.5 * z.square() + prox.regularizer(z, mu)


@dataclass(frozen=True, eq=False)
class SharpnessGroup:
    """The rows (latents) of a run that share the sharpness `mu`, as indices, and the potential Φ at that μ."""

    mu: float
    rows: Tensor
    potential: Function


class Potentials:
    """The potentials Φ_0 to Φ_t of a run with sharpness `mu`, (t+1,), and latents of magnitude up to `reach`."""

    def __init__(self, prox: Prox, mu: Tensor, reach: float) -> None:
        places = mu if prox.sharpness is not None else torch.ones_like(mu)
        distinct, inverse, counts = places.unique(return_inverse=True, return_counts=True)
        order = inverse.argsort(stable=True)
        self.prox, self.place = prox, order.argsort()
        self.groups = [
            SharpnessGroup(m, r, potential(prox, m, max(REACH, reach)))
            for m, r in zip(distinct.tolist(), order.split(counts.tolist()), strict=True)
        ]

    def prox_points(self, latents: Tensor) -> Tensor:
        """Return P of `latents` (t+1, n), each row at its sharpness, (t+1, n)."""
        return torch.cat([self.prox(latents[group.rows], group.mu) for group in self.groups])[self.place]

    def at_rows(self, points: Tensor) -> Tensor:
        """Return Φ_k at row k of `points` (t+1, n), summed over the entries, (t+1,)."""
        return torch.cat([group.potential(points[group.rows]).sum(1) for group in self.groups])[self.place]

    def at_points(self, points: Tensor) -> Tensor:
        """Return every Φ_k at each of the m rows of `points` (m, n), summed over the entries, (m, t+1)."""
        values = [group.potential(points).sum(1, keepdim=True).expand(-1, len(group.rows)) for group in self.groups]
        return torch.cat(values, 1)[:, self.place]
