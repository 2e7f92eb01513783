"""ℓ∘T, on which ProxConnect with a transform T descends, at the prox points of a run and at comparison points."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from proxconnect.pairs import Transform

Loss = Callable[[Tensor], Tensor]
"""ℓ of a flat weight vector (n,): a scalar tensor that autograd can differentiate."""


@dataclass(frozen=True, eq=False)
class Composite:
    """T at the t prox points p of the steps, (t, n), and ℓ at T(p) if there is a loss."""

    transform: Transform
    mu: float
    p: Tensor
    loss: Loss | None
    weights: Tensor
    """T(p), (t, n)."""
    derivative: Tensor
    """T'(p), (t, n)."""
    values: Tensor | None
    """ℓ(T(p)), (t,)."""
    gradients: Tensor | None
    """∇ℓ at T(p), (t, n)."""

    @classmethod
    def at(cls, p: Tensor, transform: Transform, mu: float, loss: Loss | None) -> "Composite":
        """Evaluate ℓ∘T with the T of one sharpness; ValueError if the loss is no differentiable scalar."""
        weights, derivative = transform(p, mu), transform.derivative(p, mu)
        values, gradients = (None, None) if loss is None else _evaluated(loss, weights)
        return cls(transform, mu, p, loss, weights, derivative, values, gradients)

    @property
    def best(self) -> Tensor | None:
        """The prox point of the lowest loss, (n,)."""
        return None if self.values is None else self.p[int(self.values.argmin())]

    def against(self, points: Tensor) -> "Excess | None":
        """Return the excess of the run over comparison points w (m, n); None without a loss."""
        if self.loss is None or self.values is None or self.gradients is None:
            return None
        at_points, _ = _evaluated(self.loss, self.transform(points, self.mu))
        excesses = self.values - at_points[:, None]
        along = self.derivative * self.gradients  # ∇(ℓ∘T)
        slacks = (self.p * along).sum(1) - points @ along.T - excesses
        return Excess(int(at_points.argmin()), excesses, slacks)


@dataclass(frozen=True, eq=False)
class Excess:
    """The loss of every step over that of m comparison points w, and the slack of the convexity inequality."""

    lowest: int
    """The comparison point with the lowest loss."""
    values: Tensor
    """(ℓ∘T)(p_τ) - (ℓ∘T)(w), (m, t)."""
    slacks: Tensor
    """⟨p_τ - w, ∇(ℓ∘T)(p_τ)⟩ - `values`, (m, t)."""


def _evaluated(loss: Loss, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return ℓ and ∇ℓ at each row of `weights`."""
    values, gradients = torch.empty(len(weights), dtype=weights.dtype), torch.empty_like(weights)
    for k, row in enumerate(weights):
        with torch.enable_grad():
            leaf = row.clone().requires_grad_()
            value = loss(leaf)
            if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
                raise ValueError("loss must map a weight vector (n,) to a scalar tensor, differentiable by autograd")
            (gradients[k],) = torch.autograd.grad(value, leaf)
        values[k] = value.detach()
    return values, gradients
