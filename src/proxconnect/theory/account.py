"""The bookkeeping of ProxConnect: both sides of the identity that every certificate starts from, term by term.

With p_τ = P_τ(w*_τ), the potential Φ_τ at μ_{τ+1}, of which p_{τ+1} is the minimiser, and
Δ_τ(w) = Φ_τ(w) - Φ_τ(p_{τ+1}) - ⟨w - p_{τ+1}, w*_{τ+1}⟩, for any vectors g and every w in the domain of Φ

    Σ_τ η_τ⟨p_τ - w, g_τ⟩ + (Φ_τ - Φ_{τ-1})(p_τ) - (Φ_τ - Φ_{τ-1})(w)  =  Δ_0(w) - Δ_t(w) + Σ_τ Δ_τ(p_τ).

Row k of a tensor of t+1 rows is of w*_{k+1}, p_{k+1} and Φ_k; row k of one of t rows is of step τ = k+1.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from proxconnect.pairs.prox import Prox
from proxconnect.theory.mesh import REACH
from proxconnect.theory.potential import Integrated, Potential, potential
from proxconnect.theory.trajectory import Trajectory


@dataclass(frozen=True, eq=False)
class SharpnessGroup:
    """The rows that share one sharpness, and the potential there."""

    mu: float
    rows: Tensor
    potential: Potential

    @property
    def is_exact(self) -> bool:
        """Whether Φ is known to rounding, not by integration."""
        return not isinstance(self.potential, Integrated)


class Potentials:
    """Φ_0 to Φ_t of a run: few, where μ stays; known at least at the prox points of latents up to ±`reach`."""

    def __init__(self, prox: Prox, mu: Tensor, reach: float = REACH) -> None:
        places = mu if prox.sharpness is not None else torch.ones_like(mu)
        distinct, inverse, counts = places.unique(return_inverse=True, return_counts=True)
        rows = inverse.argsort(stable=True).split(counts.tolist())
        self.prox, self.count = prox, len(mu)
        self._groups = [
            SharpnessGroup(m, r, potential(prox, m, max(REACH, reach)))
            for m, r in zip(distinct.tolist(), rows, strict=True)
        ]

    def __iter__(self) -> Iterator[SharpnessGroup]:
        return iter(self._groups)

    def prox_points(self, latents: Tensor) -> Tensor:
        """P at the sharpness of each row, (t+1, n)."""
        points = torch.empty_like(latents)
        for group in self:
            points[group.rows] = self.prox(latents[group.rows], group.mu)
        return points

    def at_rows(self, points: Tensor) -> Tensor:
        """Φ_k of row k, summed over the entries, (t+1,)."""
        values = torch.empty(self.count, dtype=points.dtype)
        for group in self:
            values[group.rows] = group.potential(points[group.rows]).sum(1)
        return values

    def at_points(self, points: Tensor) -> Tensor:
        """Every Φ_k at each of m points (m, n), summed over the entries, (m, t+1)."""
        values = torch.empty(len(points), self.count, dtype=points.dtype)
        for group in self:
            values[:, group.rows] = group.potential(points).sum(1, keepdim=True)
        return values


@dataclass(frozen=True, eq=False)
class Account:
    """The terms of the identity at m comparison points w, at every horizon."""

    points: Tensor
    """w, (m, n)."""
    learning_rates: Tensor
    """η_τ, (t,)."""
    earned: Tensor
    """η_τ⟨p_τ - w, g_τ⟩, (m, t)."""
    moved: Tensor
    """(Φ_τ - Φ_{τ-1})(p_τ) - (Φ_τ - Φ_{τ-1})(w), (m, t)."""
    distances: Tensor
    """Δ_0(w) to Δ_t(w), (m, t+1)."""
    hops: Tensor
    """Δ_τ(p_τ), (t,)."""
    size: Tensor
    """The size of the numbers that both sides are differences of, (m, t)."""

    @property
    def travelled(self) -> Tensor:
        """Σ η_τ at every horizon, (t,)."""
        return self.learning_rates.cumsum(0)

    @property
    def left(self) -> Tensor:
        """The left side at every horizon, (m, t)."""
        return (self.earned + self.moved).cumsum(1)

    @property
    def right(self) -> Tensor:
        """The right side at every horizon, (m, t)."""
        return self.distances[:, :1] - self.distances[:, 1:] + self.hops.cumsum(0)

    @property
    def gap(self) -> Tensor:
        """|left - right| relative to the size of their terms, (m, t)."""
        return (self.left - self.right).abs() / self.size


def account(trajectory: Trajectory, potentials: Potentials, p: Tensor, points: Tensor) -> Account:
    """Both sides of the identity at `points` (m, n), for the prox points `p` (t+1, n)."""
    latents, rates = trajectory.latents, trajectory.learning_rates
    own = potentials.at_rows(p)
    ahead = potentials.at_rows(p.roll(1, 0))[1:]  # Φ_τ(p_τ)
    at_w = potentials.at_points(points)
    pairing = points @ latents.T
    distances = at_w - own - pairing + (p * latents).sum(1)
    hops = ahead - own[1:] - ((p[:-1] - p[1:]) * latents[1:]).sum(1)
    earned = rates * ((p[:-1] * trajectory.updates).sum(1) - points @ trajectory.updates.T)
    moved = (ahead - own[:-1]) - at_w.diff(dim=1)
    terms = (earned.abs() + moved.abs() + hops.abs()).cumsum(1) + at_w[:, :1].abs() + pairing[:, :1].abs()
    size = terms + at_w[:, 1:].abs() + own[1:].abs() + pairing[:, 1:].abs()
    return Account(points, rates, earned, moved, distances, hops, size)
