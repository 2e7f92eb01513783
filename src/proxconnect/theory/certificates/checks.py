"""The conditions of a certificate: each check is the worst number of the run, and whether it is allowed."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from proxconnect.pairs import Pair
from proxconnect.theory.certificates.account import Account, Composite, Excess
from proxconnect.theory.certificates.potentials import Integrated, Potentials, SharpnessGroup
from proxconnect.theory.certificates.trajectory import Trajectory
from proxconnect.theory.verdicts.declaration import Declaration

IDENTITY = 1e-10
"""Greatest relative gap of the identity in float64."""

SAME = 1e-7
"""Greatest miss of F from T(p) and of g from T'(p) ⊙ ∇ℓ in float64, relative to the largest entry of the step."""

CONVEX = 1e-9
"""Greatest miss of the convexity inequality, relative to its terms."""

STATED, INTEGRATED = 1e-9, 1e-7
"""Δ may fall this far below 0, relative to its terms, for a Φ that is stated and for one that is integrated."""

_NEAR = torch.tensor([sign * 10.0**-k for k in range(1, 5) for sign in (1, -1)], dtype=torch.float64)
_SLICE = 4096  # entries whose Δ is searched on a grid at once


@dataclass(frozen=True)
class Check:
    """One condition that can fail: the worst number of the run, and its place."""

    name: str
    holds: bool | None
    """None if it was not checked."""
    value: float
    """The worst number of the run; NaN if it was not checked."""
    reason: str
    """The name of the number, or why there is none."""
    step: int | None = None
    """τ, from 1; for Δ_τ from 0."""
    entry: int | None = None
    """The entry of the latent, or for the convexity inequality the comparison point."""

    @property
    def detail(self) -> str:
        """The reason, the number, and the place of a failure."""
        number = "" if math.isnan(self.value) else f" {self.value:.3g}"
        if self.holds is not False or self.step is None:
            return self.reason + number
        place = "" if self.entry is None else f", {'point' if self.name == 'convexity' else 'entry'} {self.entry}"
        return f"{self.reason}{number}, step {self.step}{place}"

    def __str__(self) -> str:
        word = {True: "holds", False: "fails", None: "not checked"}[self.holds]
        return f"{word:11}  {self.detail}"


def identity(owed: Account, resolution: float) -> Check:
    """Check that both sides of the identity agree."""
    gaps = owed.gap
    if not bool(gaps.isfinite().all()):
        return Check("identity", None, math.nan, "Φ is infinite at a prox point")
    step = int(gaps.amax(0).argmax())
    value = float(gaps[:, step].max())
    return Check("identity", value <= max(IDENTITY, 64 * resolution), value, "relative gap", step + 1)


def proximality(latents: Tensor, potentials: Potentials, p: Tensor) -> Check:
    """Check that Δ_τ(w) ≥ 0, up to rounding, over a grid of w for every latent (t+1, n): p minimises Φ - ⟨·, w*⟩."""
    least, value, place = math.inf, math.nan, 0
    visited = torch.unique(p)
    visited = visited[torch.linspace(0, len(visited) - 1, min(100, len(visited))).round().long()]  # at most 100
    unit, corners = torch.linspace(-1.0, 1.0, 401, dtype=p.dtype), torch.tensor([-1.0, 0.0, 1.0], dtype=p.dtype)
    for group in potentials.groups:
        x, at = latents[group.rows].reshape(-1), p[group.rows].reshape(-1)
        reach = 1.5 * max(1.0, float(at.abs().max()))
        line = torch.linspace(-reach, reach, 201, dtype=p.dtype)  # around the run
        sources = unit * (1 + 1.5 * float(x.abs().max()))
        reached = potentials.prox(sources, group.mu)  # the range of P, with its plateaus and the ends of its gaps
        grid: Tensor = torch.unique(torch.cat([line, corners, reached, visited]))
        allowed = INTEGRATED if isinstance(group.potential, Integrated) else STATED
        delta, excess = _least_delta(group, x, at, grid, allowed)
        worst = int(excess.argmin())
        if float(excess[worst]) < least:
            least, value = float(excess[worst]), float(delta[worst])
            place = int(group.rows[worst // p.shape[1]]) * p.shape[1] + worst % p.shape[1]
    step, entry = divmod(place, p.shape[1])
    return Check("proximality", least >= 0, value, "least Δ(w)", step, entry)


def _least_delta(group: SharpnessGroup, x: Tensor, p: Tensor, grid: Tensor, allowed: float) -> tuple[Tensor, Tensor]:
    """Return the least Δ of each latent, over the grid and near p, and its distance above the allowed error."""

    def known(z: Tensor) -> Tensor:
        values = group.potential(z)
        return torch.where(values.isnan(), torch.inf, values)

    heights, own = known(grid), known(p)
    lowest = []
    for source, point in zip(x.split(_SLICE), p.split(_SLICE), strict=True):
        near = point[:, None] + _NEAR * (1 + point[:, None].abs())
        beside = known(near)
        source = source[:, None]
        lowest.append(torch.minimum((heights - source * grid).amin(1), (beside - source * near).amin(1)))
    delta = torch.where(own.isfinite(), torch.cat(lowest) - (own - x * p), -torch.inf)
    size = 1 + x.abs() * (p.abs() + grid.abs().max()) + torch.where(own.isfinite(), own.abs(), 0.0)
    return delta, delta + allowed * size


def forward(trajectory: Trajectory, pair: Pair, composite: Composite) -> Check:
    """Check that F(w*_τ) is T(p_τ) with the T of the last step."""
    transformed, weights = composite.weights, trajectory.weights
    if weights is None:
        latents, mu = trajectory.latents[:-1], trajectory.mu[:-1]
        weights = torch.cat([pair.forward(row, float(m))[None] for row, m in zip(latents, mu, strict=True)])
    misses = (weights - transformed).abs()
    allowed = max(SAME, 64 * trajectory.resolution) * (1 + transformed.abs().amax(1, keepdim=True))
    step, entry = _worst(misses / allowed)
    moves = pair.transform.sharpness is not None and bool((trajectory.mu[:-1] != trajectory.mu[0]).any())
    reason = "T moves with μ, by" if moves else "greatest miss"
    holds = bool((misses <= allowed).all())
    return Check("forward", holds, float(misses[step, entry]), reason, step + 1, entry)


def gradient(trajectory: Trajectory, pair: Pair, composite: Composite) -> Check:
    """Check that g is T'(p) ⊙ ∇ℓ for the recorded gradients and for those of the loss, and T' the derivative of T.

    A run by other gradients than those of the loss, such as those of batches, owes that loss nothing.
    """
    low, high = float(composite.p.min()), float(composite.p.max())
    alone = Pair(pair.name, transform=pair.transform)  # P has a check by itself
    if low < high and (error := Declaration(alone, composite.mu, low, high).error) is not None:
        return Check("gradient", False, math.nan, error)
    recorded, of_loss = trajectory.gradients, composite.gradients
    beside = "greatest relative miss" if recorded is None else "∇ℓ was not that of this loss, relative miss"
    known = ((recorded, "greatest relative miss"), (of_loss, beside))
    seen = [_missed(trajectory, composite, given, reason) for given, reason in known if given is not None]
    if not seen:
        return Check("gradient", None, math.nan, "g needs a loss, or recorded gradients")
    return next((check for check in seen if not check.holds), seen[0])


def _missed(trajectory: Trajectory, composite: Composite, gradients: Tensor, reason: str) -> Check:
    """Check how far g is from T'(p) ⊙ these gradients, (t, n)."""
    expected, updates = composite.derivative * gradients, trajectory.updates
    stepped = trajectory.learning_rates > 0
    largest = torch.maximum(expected.abs(), updates.abs()).amax(1)
    reach = trajectory.latents.abs().amax(1)[:-1] / torch.where(stepped, trajectory.learning_rates, 1.0)
    allowed = max(SAME, 64 * trajectory.resolution)
    size = largest + 8 * trajectory.resolution / allowed * reach  # g is known to the rounding of latents over η
    misses = (updates - expected).abs() * stepped[:, None] / size.clamp(min=torch.finfo(torch.float64).tiny)[:, None]
    step, entry = _worst(misses)
    value = float(misses[step, entry])
    return Check("gradient", value <= allowed, value, reason, step + 1, entry)


def convexity(excess: Excess | None) -> Check:
    """Check that ⟨p_τ - w, ∇(ℓ∘T)(p_τ)⟩ ≥ (ℓ∘T)(p_τ) - (ℓ∘T)(w) for all comparison points w."""
    if excess is None:
        return Check("convexity", None, math.nan, "it needs a loss")
    allowed = CONVEX * (1 + excess.slacks.abs() + excess.values.abs())
    point, step = _worst(-excess.slacks / allowed)
    holds = bool((excess.slacks >= -allowed).all())
    return Check("convexity", holds, float(excess.slacks[point, step]), "least slack", step + 1, point)


def _worst(values: Tensor) -> tuple[int, int]:
    """Return the indices of the largest entry of (m, n)."""
    return divmod(int(values.argmax()), values.shape[1])
