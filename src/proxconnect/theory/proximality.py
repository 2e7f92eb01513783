"""Whether the prox points of a run are the minimisers of Φ - ⟨·, w*⟩: Δ_τ(w) ≥ 0 for all w in the domain of Φ."""

import math

import torch
from torch import Tensor

from proxconnect.theory.account import Potentials, SharpnessGroup
from proxconnect.theory.checks import Check

STATED, INTEGRATED = 1e-9, 1e-7
"""How far Δ may fall below 0, relative to its terms, for a Φ that is stated and for one that is integrated."""

_NEAR = torch.tensor([sign * 10.0**-k for k in range(1, 5) for sign in (1, -1)], dtype=torch.float64)
_SLICE = 4096  # entries whose Δ is looked for on a grid at once


def proximality(latents: Tensor, potentials: Potentials, p: Tensor) -> Check:
    """The least Δ_τ(w), relative to what it may miss by rounding, over a grid for every latent (t+1, n)."""
    least, value, place = math.inf, math.nan, 0
    visited = _spread(torch.unique(p))
    for group in potentials:
        x, at = latents[group.rows].reshape(-1), p[group.rows].reshape(-1)
        grid = _grid(potentials, group, x, at, visited)
        allowed = STATED if group.is_exact else INTEGRATED
        delta, excess = _least_delta(group, x, at, grid, allowed)
        worst = int(excess.argmin())
        if float(excess[worst]) < least:
            least, value = float(excess[worst]), float(delta[worst])
            place = int(group.rows[worst // p.shape[1]]) * p.shape[1] + worst % p.shape[1]
    step, entry = divmod(place, p.shape[1])
    return Check("proximality", least >= 0, value, "least Δ(w)", step, entry)


def _least_delta(group: SharpnessGroup, x: Tensor, p: Tensor, grid: Tensor, allowed: float) -> tuple[Tensor, Tensor]:
    """The least Δ for each latent, over the grid and near p, and by how much it is above what rounding allows."""
    heights = _known(group.potential(grid))
    own = _known(group.potential(p))
    lowest = []
    for source, point in zip(x.split(_SLICE), p.split(_SLICE), strict=True):
        near = point[:, None] + _NEAR * (1 + point[:, None].abs())
        beside = _known(group.potential(near))
        source = source[:, None]
        lowest.append(torch.minimum((heights - source * grid).amin(1), (beside - source * near).amin(1)))
    delta = torch.where(own.isfinite(), torch.cat(lowest) - (own - x * p), -torch.inf)
    size = 1 + x.abs() * (p.abs() + grid.abs().max()) + torch.where(own.isfinite(), own.abs(), 0.0)
    return delta, delta + allowed * size


def _known(values: Tensor) -> Tensor:
    """Φ, infinite where it is not known."""
    return torch.where(values.isnan(), torch.inf, values)


def _grid(potentials: Potentials, group: SharpnessGroup, x: Tensor, p: Tensor, visited: Tensor) -> Tensor:
    """Where Δ is looked at: the line around the run, and the range of P with its plateaus and the ends of its gaps."""
    reach = 1.5 * max(1.0, float(p.abs().max()))
    line = torch.linspace(-reach, reach, 201, dtype=x.dtype)
    sources = torch.linspace(-1.0, 1.0, 401, dtype=x.dtype) * (1 + 1.5 * float(x.abs().max()))
    corners = torch.tensor([-1.0, 0.0, 1.0], dtype=x.dtype)
    grid: Tensor = torch.unique(torch.cat([line, corners, potentials.prox(sources, group.mu), visited]))
    return grid


def _spread(values: Tensor, most: int = 100) -> Tensor:
    """At most so many of the sorted values, evenly."""
    spread: Tensor = values[torch.linspace(0, len(values) - 1, min(most, len(values))).round().long()]
    return spread
