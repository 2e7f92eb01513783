"""ℓ∘T, on which ProxConnect with a transform T descends, at the prox points of a run and at comparison points."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from proxconnect.pairs import Transform

Loss = Callable[[Tensor], Tensor]
"""ℓ of a flat weight vector (n,): a scalar tensor that autograd can differentiate."""


class Composite:
    """ℓ∘T with the T of one sharpness, at the t prox points p of the steps, (t, n)."""

    def __init__(self, p: Tensor, transform: Transform, mu: float, loss: Loss | None) -> None:
        self.p, self.transform, self.mu, self.loss = p, transform, mu, loss
        self.weights, self.derivative = transform(p, mu), transform.derivative(p, mu)
        """T(p) and T'(p), (t, n)."""
        known = (None, None) if loss is None else _evaluated(loss, self.weights)
        self.values: Tensor | None = known[0]
        """ℓ(T(p)), (t,); None without a loss."""
        self.gradients: Tensor | None = known[1]
        """∇ℓ at T(p), (t, n); None without a loss."""

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
    """Return ℓ and ∇ℓ at each row of `weights`; ValueError if ℓ is no differentiable scalar."""
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
