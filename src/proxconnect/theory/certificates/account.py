"""The account of a run: both sides of the identity term by term, and the loss along the run.

With p_τ = P_τ(w*_τ), the potential Φ_τ at μ_{τ+1}, whose minimiser is p_{τ+1}, and
Δ_τ(w) = Φ_τ(w) - Φ_τ(p_{τ+1}) - ⟨w - p_{τ+1}, w*_{τ+1}⟩, any vectors g and every w in the domain of Φ satisfy

    Σ_τ η_τ⟨p_τ - w, g_τ⟩ + (Φ_τ - Φ_{τ-1})(p_τ) - (Φ_τ - Φ_{τ-1})(w)  =  Δ_0(w) - Δ_t(w) + Σ_τ Δ_τ(p_τ).

Row k of a tensor of t+1 rows belongs to w*_{k+1}, p_{k+1} and Φ_k. Row k of t rows belongs to step τ = k+1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from proxconnect.pairs import Transform
from proxconnect.theory.certificates.potentials import Potentials
from proxconnect.theory.certificates.trajectory import Trajectory
from proxconnect.theory.functions.blackbox import Function


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
