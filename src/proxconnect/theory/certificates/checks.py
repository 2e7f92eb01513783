"""The checks of a run: of its account, and of the conditions under which it inherits the guarantee."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from proxconnect.pairs import Pair
from proxconnect.theory.certificates.account import Account, Composite, Excess
from proxconnect.theory.certificates.potentials import Integrated, Potentials, SharpnessGroup
from proxconnect.theory.certificates.trajectory import Trajectory
from proxconnect.theory.verdicts.declaration import Declaration

SAME = 1e-7
"""Greatest miss of F from T(p) and of g from T'(p) ⊙ ∇ℓ in float64, relative to the largest entry of the step."""

STATED, INTEGRATED = 1e-9, 1e-7
"""Δ may fall this far below 0, relative to its terms, for a Φ that is stated and for one that is integrated."""


@dataclass(frozen=True)
class Check:
    """The result of one check of a run: whether it holds, and the worst number, with step and entry if known."""

    name: str
    holds: bool | None
    """True if it holds, False if it fails, None if it was not checked."""
    value: float
    """The worst number of the run; NaN if it was not checked."""
    reason: str
    """What `value` is, or why there is none."""
    step: int | None = None
    """The step τ of the worst number, counted from 1; for proximality from 0."""
    entry: int | None = None
    """The index of the latent with the worst number, or for convexity that of the comparison point."""

    @property
    def detail(self) -> str:
        """The reason and the worst number as text; if the check fails, also the step and the entry, if known."""
        number = "" if math.isnan(self.value) else f" {self.value:.3g}"
        if self.holds is not False or self.step is None:
            return self.reason + number
        place = "" if self.entry is None else f", {'point' if self.name == 'convexity' else 'entry'} {self.entry}"
        return f"{self.reason}{number}, step {self.step}{place}"

    def __str__(self) -> str:
        word = {True: "holds", False: "fails", None: "not checked"}[self.holds]
        return f"{word:11}  {self.detail}"


def identity(account: Account, resolution: float) -> Check:
    """Check that both sides of an `Account`, if finite, agree up to rounding; `resolution` is the run's epsilon."""
    gaps = account.gap
    if not bool(gaps.isfinite().all()):
        return Check("identity", None, math.nan, "Φ is infinite at a prox point")
    step = int(gaps.amax(0).argmax())
    value = float(gaps[:, step].max())
    return Check("identity", value <= max(1e-10, 64 * resolution), value, "relative gap", step + 1)


def proximality(latents: Tensor, potentials: Potentials, p: Tensor) -> Check:
    """Check Δ(w) = Φ(w) - Φ(p) - ⟨w - p, w*⟩ ≥ 0, up to rounding, for latents w*, prox points p, and a grid of w."""
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
    steps = torch.tensor([sign * 10.0**-k for k in range(1, 5) for sign in (1, -1)], dtype=torch.float64)
    for source, point in zip(x.split(4096), p.split(4096), strict=True):  # on the grid at once
        near = point[:, None] + steps * (1 + point[:, None].abs())
        beside = known(near)
        source = source[:, None]
        lowest.append(torch.minimum((heights - source * grid).amin(1), (beside - source * near).amin(1)))
    delta = torch.where(own.isfinite(), torch.cat(lowest) - (own - x * p), -torch.inf)
    size = 1 + x.abs() * (p.abs() + grid.abs().max()) + torch.where(own.isfinite(), own.abs(), 0.0)
    return delta, delta + allowed * size


def forward(trajectory: Trajectory, pair: Pair, composite: Composite) -> Check:
    """Check that the recorded weights, or else F(w*_τ), are T(p_τ) up to rounding, with the T of the last step."""
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
    """Check that T' is the derivative of T, and g = T'(p) ⊙ ∇ℓ for the recorded ∇ℓ and that of the loss, if known."""
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
    """Check that ⟨p_τ - w, ∇(ℓ∘T)(p_τ)⟩ ≥ (ℓ∘T)(p_τ) - (ℓ∘T)(w) up to rounding; `holds` is None without `excess`."""
    if excess is None:
        return Check("convexity", None, math.nan, "it needs a loss")
    allowed = 1e-9 * (1 + excess.slacks.abs() + excess.values.abs())
    point, step = _worst(-excess.slacks / allowed)
    holds = bool((excess.slacks >= -allowed).all())
    return Check("convexity", holds, float(excess.slacks[point, step]), "least slack", step + 1, point)


def _worst(values: Tensor) -> tuple[int, int]:
    """Return the indices of the largest entry of (m, n)."""
    return divmod(int(values.argmax()), values.shape[1])
