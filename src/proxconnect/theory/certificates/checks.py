"""The account of a run: both sides of the identity term by term, and the checks of it and of the conditions.

With p_τ = P_τ(w*_τ), the potential Φ_τ at μ_{τ+1}, whose minimiser is p_{τ+1}, and
Δ_τ(w) = Φ_τ(w) - Φ_τ(p_{τ+1}) - ⟨w - p_{τ+1}, w*_{τ+1}⟩, any vectors g and every w in the domain of Φ satisfy

    Σ_τ η_τ⟨p_τ - w, g_τ⟩ + (Φ_τ - Φ_{τ-1})(p_τ) - (Φ_τ - Φ_{τ-1})(w)  =  Δ_0(w) - Δ_t(w) + Σ_τ Δ_τ(p_τ).

Row k of a tensor of t+1 rows belongs to w*_{k+1}, p_{k+1} and Φ_k. Row k of t rows belongs to step τ = k+1.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from proxconnect.pairs import Pair, Transform
from proxconnect.theory.certificates.potentials import Integrated, Potentials, SharpnessGroup
from proxconnect.theory.certificates.trajectory import Trajectory
from proxconnect.theory.functions.blackbox import Function
from proxconnect.theory.verdicts.declaration import Declaration

SAME = 1e-7
"""Greatest miss of F from T(p) and of g from T'(p) ⊙ ∇ℓ in float64, relative to the largest entry of the step."""

STATED, INTEGRATED = 1e-9, 1e-7
"""Δ may fall this far below 0, relative to its terms, for a Φ that is stated and for one that is integrated."""


class Account:
    """The terms and both sides of the identity of a run, after each number of steps (horizon).

    The identity is Σ η⟨p - w, g⟩ + drift of Φ = Δ_0(w) - Δ_t(w) + Σ Δ_τ(p_τ), at prox points `p`, (t+1, n), and for
    comparison points w, the rows of `points`, (m, n).
    """

    def __init__(self, trajectory: Trajectory, potentials: Potentials, p: Tensor, points: Tensor) -> None:
        latents, updates = trajectory.latents, trajectory.updates
        own = potentials.at_rows(p)
        ahead = potentials.at_rows(p.roll(1, 0))[1:]  # Φ_τ(p_τ)
        at_w = potentials.at_points(points)
        pairing = points @ latents.T
        self.points, self.learning_rates = points, trajectory.learning_rates
        self.travelled = self.learning_rates.cumsum(0)
        """Σ η_τ at every horizon, (t,)."""
        earned = self.learning_rates * ((p[:-1] * updates).sum(1) - points @ updates.T)  # η_τ⟨p_τ - w, g_τ⟩, (m, t)
        self.moved = (ahead - own[:-1]) - at_w.diff(dim=1)
        """(Φ_τ - Φ_{τ-1})(p_τ) - (Φ_τ - Φ_{τ-1})(w), (m, t)."""
        self.distances = at_w - own - pairing + (p * latents).sum(1)
        """Δ_0(w) to Δ_t(w), (m, t+1)."""
        self.hops = ahead - own[1:] - ((p[:-1] - p[1:]) * latents[1:]).sum(1)
        """Δ_τ(p_τ), (t,)."""
        self.left = (earned + self.moved).cumsum(1)
        self.right = self.distances[:, :1] - self.distances[:, 1:] + self.hops.cumsum(0)
        """The left and the right side of the identity at every horizon, (m, t) each."""
        terms = (earned.abs() + self.moved.abs() + self.hops.abs()).cumsum(1)
        terms = terms + at_w[:, :1].abs() + pairing[:, :1].abs()
        size = terms + at_w[:, 1:].abs() + own[1:].abs() + pairing[:, 1:].abs()
        self.gap = (self.left - self.right).abs() / size
        """|left - right|, divided by the sum of the magnitudes of the terms, (m, t)."""


class Composite:
    """The loss ℓ∘T, with the transform T at one sharpness `mu`, evaluated at the prox points `p` of t steps, (t, n)."""

    def __init__(self, p: Tensor, transform: Transform, mu: float, loss: Function | None) -> None:
        self.p, self.transform, self.mu, self.loss = p, transform, mu, loss
        self.weights, self.derivative = transform(p, mu), transform.derivative(p, mu)
        """T(p) and T'(p), (t, n)."""
        self.values: Tensor | None = None
        self.gradients: Tensor | None = None
        """The loss ℓ, (t,), and its gradient ∇ℓ, (t, n), at T(p); None without a loss."""
        if loss is not None:
            self.values, self.gradients = _evaluated(loss, self.weights)
            known = self.values.isfinite() & self.gradients.isfinite().all(1)
            _require(known, "the loss or its gradient is not finite at the weights of step", first=1)

    def against(self, points: Tensor) -> "Excess | None":
        """Return the loss ℓ∘T of every step less that of every comparison point, and the slacks of convexity.

        `points` are prox points, (m, n). None without a loss.
        """
        if self.loss is None or self.values is None or self.gradients is None:
            return None
        at_points, _ = _evaluated(self.loss, self.transform(points, self.mu))
        _require(~at_points.isnan(), "the loss is NaN at comparison point", first=0)
        excesses = self.values - at_points[:, None]
        along = self.derivative * self.gradients  # ∇(ℓ∘T)
        slacks = (self.p * along).sum(1) - points @ along.T - excesses
        return Excess(int(at_points.argmin()), excesses, slacks)


@dataclass(frozen=True, eq=False)
class Excess:
    """The loss of every step less that of m comparison points w, and by how much the convexity inequality holds."""

    lowest: int
    """The index of the comparison point with the lowest loss."""
    values: Tensor
    """(ℓ∘T)(p_τ) - (ℓ∘T)(w), (m, t)."""
    slacks: Tensor
    """⟨p_τ - w, ∇(ℓ∘T)(p_τ)⟩ - `values`, (m, t)."""


def _evaluated(loss: Function, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return ℓ and ∇ℓ at each row of `weights`; ValueError if ℓ is no differentiable scalar."""
    values, gradients = torch.empty(len(weights), dtype=weights.dtype), torch.empty_like(weights)
    for k, row in enumerate(weights):
        with torch.inference_mode(False), torch.enable_grad():
            leaf = row.clone().requires_grad_()
            try:
                value = loss(leaf.clone())  # which it may overwrite
            except Exception as error:
                raise ValueError(
                    f"loss raised {type(error).__name__} for a float64 weight vector, {tuple(row.shape)}: {error}"
                ) from error
            if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
                raise ValueError("loss must map a weight vector (n,) to a scalar tensor, differentiable by autograd")
            (gradient,) = torch.autograd.grad(value, leaf)
        values[k], gradients[k] = value.detach(), gradient
    return values, gradients


def _require(known: Tensor, complaint: str, first: int) -> None:
    """Raise ValueError unless all of `known`, (n,), are True; the message has the place, counted from `first`."""
    if not bool(known.all()):
        place = int((~known).nonzero()[0]) + first
        raise ValueError(
            f"{complaint} {place}, so convexity cannot be checked: write the loss so that it is finite there"
        )


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


def identity(owed: Account, resolution: float) -> Check:
    """Check that both sides of an `Account`, if finite, agree up to rounding; `resolution` is the run's epsilon."""
    gaps = owed.gap
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
