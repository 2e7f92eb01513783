"""Transforms T of the prox point and their derivatives: a pair is (T∘P, T'∘P).

Everything is elementwise on a tensor of any float dtype. T need not be monotone (sign_swish is not). At a kink the
derivative is a stated convention. No formula here overflows or cancels.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from proxconnect.pairs.part import Part, Sharpness, widened

Slope = Literal["one", "indicator", "any"]
"""The values of B: 1 everywhere, 0 and 1, or any; the backward pass needs nothing, a mask, or the latent weights."""


class Transform(Part):
    """An elementwise map T_μ, called as `transform(p, mu)`, and its derivative T'_μ, `derivative(p, mu)`.

    In a pair, p is the prox point P(x).
    """

    slope: Slope = "any"

    @abstractmethod
    def derivative(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T'_μ(p), with the shape and dtype of `p`."""

    def support(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return booleans with the shape of `p`: True where T'_μ(p) is not 0; NaN counts as not 0."""
        return self.derivative(p, mu) != 0

    def at(self, mu: float) -> "Transform":
        """Return this transform with its sharpness fixed at `mu`; itself if it does not depend on μ."""
        return self if self.sharpness is None else FixedTransform(self, self.sharpness.require(mu, repr(self)))


class Identity(Transform):
    """The identity: T(p) = p, T' = 1."""

    slope = "one"

    def __call__(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return `p` itself."""
        return p

    def derivative(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T'(p) = 1, and NaN for NaN, with the shape and dtype of `p`."""
        return torch.where(p.isnan(), p, 1.0)


class Hardtanh(Transform):
    """The clip to [-1, 1]: T(p) = clip(p, -1, 1), T' = 1[|p| ≤ 1], which is 1 at the kinks ±1 by convention."""

    slope = "indicator"

    def __call__(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T(p) = clip(p, -1, 1), with the shape and dtype of `p`; `mu` is ignored."""
        return p.clamp(-1.0, 1.0)

    def derivative(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T'(p), which is 1 for |p| ≤ 1, 0 for |p| > 1 and NaN for NaN, in the dtype of `p`."""
        magnitude = p.abs()
        return torch.where(magnitude <= 1, 1.0, torch.where(magnitude > 1, 0.0, p))

    def support(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return booleans with the shape of `p`: True where T'(p) is not 0, for |p| ≤ 1 and for NaN."""
        return (p.abs() > 1).logical_not()


class SignSwish(Transform):
    """The sign swish T(p) = SS_μ(p) = 2σ(μp)(1 + μp(1 - σ(μp))) - 1, T' = μ(2 - μp·tanh(μp/2))/(1 + cosh μp).

    With u = μp, h = tanh(u/2), q = 1 - h²: SS = h + (u/2)·q and SS' = μ·q·(1 - (u/2)·h). SS overshoots: |SS| is at most
    ≈ 1.19968, at |u| ≈ 2.3994, and SS' is negative beyond. Source: BNN+, Darabi 2018 (arXiv 1812.11800).
    """

    sharpness = Sharpness(lowest=0.0, start=0.1, end=30.0)

    def __call__(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return SS_μ(p) = sign(u)·(1 - 2·silu'(-|u|)) with u = μp, computed in float32 or wider, |u| up to 80."""
        u = mu * p
        low = widened(u.abs()).clamp(max=80.0).neg_()
        slope: Tensor = torch.ops.aten.silu_backward(torch.ones_like(low), low)  # silu', where nothing cancels
        return torch.copysign((1 - 2 * slope).to(p.dtype), u)

    def derivative(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return SS'_μ(p) = μ·q·(1 - |u|·h/2) with u = μp, q = 4t(1 - t), h = 1 - 2t, t = σ(-|u|): no cancellation."""
        magnitude = (mu * p).abs_().clamp(max=80.0)
        tail = torch.neg(magnitude).sigmoid_()
        rest = torch.addcmul(magnitude * -0.5, magnitude, tail).add_(1)  # 1 - (|u|/2)(1 - 2t)
        return rest.mul_(torch.addcmul(tail, tail, tail, value=-1)).mul_(4 * mu)


class Polynomial(Transform):
    """The piecewise quadratic T(p) = A(μp) with A(v) = 2v - v|v| on [-1, 1] and sign(v) outside; T' = μ(2 - 2|μp|)₊.

    Source: Bi-Real Net, Liu 2018 (arXiv 1808.00278).
    """

    sharpness = Sharpness(lowest=0.0, start=0.1, end=30.0)

    def __call__(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T_μ(p) = v(2 - |v|) with v = clip(μp, -1, 1)."""
        v = (mu * p).clamp(-1.0, 1.0)
        return v * (2 - v.abs())

    def derivative(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T'_μ(p) = μ(2 - 2|v|) with v = clip(μp, -1, 1)."""
        v = (mu * p).clamp(-1.0, 1.0)
        return mu * (2 - 2 * v.abs())


class ErrorDecay(Transform):
    """The scaled tanh T(p) = k·tanh(tp), T' = k·t·(1 - tanh²(tp)), with t = μ and k = max(1/t, 1).

    Source: the error decay estimator of IR-Net, Qin 2020 (arXiv 1909.10788).
    """

    sharpness = Sharpness(lowest=0.0, start=0.1, end=10.0)

    def __call__(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T_μ(p) = max(1/μ, 1)·tanh(μp), with the shape and dtype of `p`."""
        return torch.tanh(mu * p) / (mu.clamp(max=1.0) if isinstance(mu, Tensor) else min(mu, 1.0))

    def derivative(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T'_μ(p) = max(1, μ)·(1 - tanh²v) with v = clip(μp, -40, 40), computed without cancellation."""
        tail = torch.sigmoid(-2 * (mu * p).abs().clamp(max=40.0))
        gain = mu.clamp(min=1.0) if isinstance(mu, Tensor) else max(mu, 1.0)
        return (4 * gain) * (tail * (1 - tail))


@dataclass(frozen=True)
class FixedTransform(Transform):
    """A transform that always uses the stored sharpness; a call may leave μ out."""

    transform: Transform
    mu: float

    def __call__(self, p: Tensor, mu: float | Tensor | None = None) -> Tensor:
        """Return the wrapped transform at `p` and the stored sharpness; `mu` is ignored."""
        return self.transform(p, self.mu)

    def derivative(self, p: Tensor, mu: float | Tensor | None = None) -> Tensor:
        """Return the derivative T' of the wrapped transform at `p` and the stored sharpness; `mu` is ignored."""
        return self.transform.derivative(p, self.mu)


identity = Identity()
hardtanh = Hardtanh()
sign_swish = SignSwish()
polynomial = Polynomial()
error_decay = ErrorDecay()
