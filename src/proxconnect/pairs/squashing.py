"""Transforms whose derivatives are backward factors of the literature, computed in float32 or wider.

Papers on spiking networks replace the step H; since sign = 2H - 1, their derivative counts twice here. Unless a
transform says otherwise, T_μ(p) = T(μp) and T'_μ(p) = μT'(μp).
"""

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from proxconnect._support.arguments import finite
from proxconnect.pairs.part import Sharpness, widened
from proxconnect.pairs.transform import Transform, hardtanh, polynomial

_FAR = 1e18
"""A bound where curves have reached their limits and whose square is finite in float32."""


class Squashing(Transform):
    """The base class of transforms T_μ(p) = S(μp) with T'_μ(p) = μ·S'(μp), for a curve S of a subclass."""

    sharpness = Sharpness(lowest=0.0, start=0.1, end=30.0)

    @abstractmethod
    def _curve(self, u: Tensor) -> Tensor:
        """Return S(u) for |u| ≤ 1e18, in float32 or wider."""

    @abstractmethod
    def _rate(self, u: Tensor) -> Tensor:
        """Return S'(u) for |u| ≤ 1e18, in float32 or wider."""

    def __call__(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T_μ(p) = S(μp), with the shape and dtype of `p`."""
        wide, mu = _widened(p, mu)
        return self._curve((mu * wide).clamp(-_FAR, _FAR)).to(p.dtype)

    def derivative(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T'_μ(p) = μ·S'(μp), with the shape and dtype of `p`."""
        wide, mu = _widened(p, mu)
        return (mu * self._rate((mu * wide).clamp(-_FAR, _FAR))).to(p.dtype)


class Arctan(Squashing):
    """The arctangent T_μ(p) = S(μp) with S(u) = (2/π)·arctan(πu/2), S' = 1/(1 + (πu/2)²). Source: arXiv 2007.05785."""

    def _curve(self, u: Tensor) -> Tensor:
        return torch.atan(u * (math.pi / 2)) * (2 / math.pi)

    def _rate(self, u: Tensor) -> Tensor:
        return 1 / (1 + (u * (math.pi / 2)).square())


class FastSigmoid(Squashing):
    """The fast sigmoid T_μ(p) = S(μp), S(u) = u/(1 + |u|), S' = 1/(1 + |u|)². Source: SuperSpike (arXiv 1705.11146)."""

    def _curve(self, u: Tensor) -> Tensor:
        return u / (1 + u.abs())

    def _rate(self, u: Tensor) -> Tensor:
        return 1 / (1 + u.abs()).square()


class Exponential(Squashing):
    """The transform T_μ(p) = S(μp), S(u) = sign(u)·(1 - e^{-|u|}), S' = e^{-|u|}. Source: SLAYER (arXiv 1810.08646)."""

    def _curve(self, u: Tensor) -> Tensor:
        return torch.copysign(-torch.expm1(-u.abs()), u)

    def _rate(self, u: Tensor) -> Tensor:
        return torch.exp(-u.abs())


class Logistic(Squashing):
    """The logistic curve T_μ(p) = S(μp) with S(u) = 2σ(u) - 1, S' = 2σ(u)σ(-u). Source: STBP (arXiv 1706.02609)."""

    def _curve(self, u: Tensor) -> Tensor:
        return torch.tanh(u / 2)

    def _rate(self, u: Tensor) -> Tensor:
        return 2 * torch.sigmoid(u) * torch.sigmoid(-u)


class GaussianError(Squashing):
    """The error function T_μ(p) = S(μp) with S(u) = erf(u), S' = (2/√π)·e^{-u²}. Source: STBP (arXiv 1706.02609)."""

    def _curve(self, u: Tensor) -> Tensor:
        return torch.erf(u)

    def _rate(self, u: Tensor) -> Tensor:
        return torch.exp(-u.square()) * (2 / math.sqrt(math.pi))


class Clip(Squashing):
    """The clip T_μ(p) = S(μp) with S(u) = clip(u, -1, 1), S' = 1[|u| ≤ 1]. Source: STBP (arXiv 1706.02609)."""

    def _curve(self, u: Tensor) -> Tensor:
        return hardtanh(u, 1.0)

    def _rate(self, u: Tensor) -> Tensor:
        return hardtanh.derivative(u, 1.0)


@dataclass(frozen=True)
class DampedTriangle(Squashing):
    """The transform T_μ(p) = S(μp) with S(u) = γ·A(u), A of `Polynomial`, and S' = γ(2 - 2|u|)₊.

    T ends at ±γ, not at ±1. Source: the triangle is of Esser 2016 (arXiv 1603.08270), γ = 0.3 of LSNN, Bellec 2018
    (arXiv 1803.09574).
    """

    gamma: float = 0.3

    def _curve(self, u: Tensor) -> Tensor:
        return self.gamma * polynomial(u, 1.0)

    def _rate(self, u: Tensor) -> Tensor:
        return self.gamma * polynomial.derivative(u, 1.0)


@dataclass(frozen=True)
class Fourier(Squashing):
    """The transform T_μ(p) = S(μp) whose S is a truncated Fourier series of a square wave, constant beyond |u| = 1.

    S(u) = (4/π)·Σ sin(kωv)/k and S' = (4ω/π)·Σ cos(kωu)·1[|u| ≤ 1], with v = clip(u, -1, 1) and the sum over the first
    `terms` odd k; more terms make S steeper. With ten at the frequency ω = 0.1, T ends at ±1.02. Source: FDA, Xu 2021
    (arXiv 2103.00841); only implementations cut S' off.
    """

    terms: int = 10
    omega: float = 0.1

    def _curve(self, u: Tensor) -> Tensor:
        phase = self.omega * u.clamp(-1.0, 1.0)
        waves = [torch.sin(k * phase) / k for k in range(1, 2 * self.terms, 2)]
        return torch.stack(waves).sum(0) * (4 / math.pi)

    def _rate(self, u: Tensor) -> Tensor:
        phase = self.omega * u.clamp(-1.0, 1.0)
        waves = [torch.cos(k * phase) for k in range(1, 2 * self.terms, 2)]
        return hardtanh.derivative(u, 1.0) * torch.stack(waves).sum(0) * (4 * self.omega / math.pi)


@dataclass(frozen=True)
class Swish(Squashing):
    """The sign swish with another overshoot: T_μ(p) = S(μp), S(u) = h + κ·(u/2)·q, S' = q·(½(1 + κ) - κ·(u/2)·h).

    Here h = tanh(u/2) and q = 1 - h². κ = 0 gives tanh(u/2) and κ = 1 the sign swish of BNN+ (arXiv 1812.11800).

    Args:
        overshoot: κ, finite.
    """

    overshoot: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "overshoot", finite(self.overshoot, "swish: overshoot"))

    def _curve(self, u: Tensor) -> Tensor:
        half = u.clamp(-80.0, 80.0) / 2
        return torch.tanh(half) + self.overshoot * half * self._bump(half)

    def _rate(self, u: Tensor) -> Tensor:
        half = u.clamp(-80.0, 80.0) / 2
        return self._bump(half) * ((1 + self.overshoot) / 2 - self.overshoot * half * torch.tanh(half))

    def _bump(self, half: Tensor) -> Tensor:
        """Return q = 1 - tanh² of u/2, without cancellation."""
        return 4 * torch.sigmoid(2 * half) * torch.sigmoid(-2 * half)


@dataclass(frozen=True, init=False)
class Spline(Squashing):
    """The transform T_μ(p) = S(μp) with straight lines between n + 1 knots: S(0) = 0, S(±1) = ±1, constant beyond.

    On the k-th n-th of [0, 1], S' is n·slopes[k]/Σ slopes, and S is odd. At a knot S' is that of the line inside. One
    slope gives `Clip`.

    Args:
        slopes: at least one number, in proportion to S'; a negative one makes S fall there.

    Raises:
        ValueError: there is no slope, one is not finite, or their sum is not positive.
    """

    slopes: tuple[float, ...]

    def __init__(self, *slopes: float) -> None:
        given = tuple(finite(slope, "spline: slope") for slope in slopes)
        if not sum(given) > 0:
            raise ValueError(f"the slopes of a spline need a positive sum, as 3 and 1; got {given}")
        object.__setattr__(self, "slopes", given)

    def _curve(self, u: Tensor) -> Tensor:
        size = u.abs().clamp(max=1.0) * len(self.slopes)
        rises = [slope * (size - k).clamp(0.0, 1.0) for k, slope in enumerate(self.slopes)]
        return torch.stack(rises).sum(0) / sum(self.slopes) * u.sign()

    def _rate(self, u: Tensor) -> Tensor:
        size = u.abs() * len(self.slopes)
        result, scale = torch.zeros_like(u), len(self.slopes) / sum(self.slopes)
        for k, slope in reversed(list(enumerate(self.slopes, start=1))):
            result = torch.where(size <= k, slope * scale, result)
        return torch.where(u.isnan(), u, result)


class TrainingAware(Transform):
    """The transform T_μ(p) = k·A(tp/√2), T' = k(√2·t - t²|p|)₊, with A of `Polynomial`, t = μ and k = max(1/t, 1).

    Source: the training-aware approximation of RBNN, Lin 2020 (arXiv 2009.13055), which anneals t from 0.01 to 10.
    """

    sharpness = Sharpness(lowest=0.0, start=0.1, end=10.0)

    def __call__(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T_μ(p) = k·A(μp/√2) with k = max(1/μ, 1), with the shape and dtype of `p`."""
        wide, mu = _widened(p, mu)
        return (polynomial(wide / math.sqrt(2), mu) / mu.clamp(max=1.0)).to(p.dtype)

    def derivative(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T'_μ(p) = (kμ/√2)·(2 - 2|μp/√2|)₊ with k = max(1/μ, 1), with the shape and dtype of `p`."""
        wide, mu = _widened(p, mu)
        slope = polynomial.derivative(wide / math.sqrt(2), mu) / math.sqrt(2)
        return (slope / mu.clamp(max=1.0)).to(p.dtype)


class SoftQuantization(Transform):
    """The transform T_μ(p) = tanh(μv)/tanh(μ) with v = clip(p, -1, 1).

    T' = μ(1 - tanh²(μp))/tanh(μ)·1[|p| ≤ 1], and T(±1) = ±1 at every μ. As μ grows, T goes from clip to sign. Source:
    DSQ with one interval, Gong 2019 (arXiv 1908.05033).
    """

    sharpness = Sharpness(lowest=0.0, start=0.1, end=30.0)

    def __call__(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T_μ(p) = tanh(μv)/tanh(μ) with v = clip(p, -1, 1), with the shape and dtype of `p`."""
        wide, mu = _widened(p, mu)
        return (torch.tanh(mu * wide.clamp(-1.0, 1.0)) / torch.tanh(mu)).to(p.dtype)

    def derivative(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T'_μ(p) = μ(1 - tanh²(μp))/tanh(μ) for |p| ≤ 1, 0 beyond, computed without cancellation."""
        wide, mu = _widened(p, mu)
        tail = torch.sigmoid(-2 * mu * wide.clamp(-1.0, 1.0).abs())
        bump = 4 * tail * (1 - tail) * (mu / torch.tanh(mu))
        return (hardtanh.derivative(wide, 1.0) * bump).to(p.dtype)


@dataclass(frozen=True)
class Power(Transform):
    """The power transform T(p) = sign(p)·min(|p|, t)^{1/o} of ReSTE, but a straight line through 0 for |p| < m.

    T' is |p|^{1/o-1}/o for m ≤ |p| ≤ t, m^{1/o-1} for |p| < m, and 0 for |p| > t. The exponent o is the sharpness μ ≥
    1, and T is no function of the product μp. At o = 1, T is clip(p, -t, t). As o → ∞, T tends to sign(p) for |p| ≥ m
    and to p/m below. Source: ReSTE, Wu 2023 (arXiv 2308.06689), t = 1.5, m = 0.1, o from 1 to 3.
    """

    t: float = 1.5
    m: float = 0.1

    sharpness = Sharpness(lowest=1.0, start=1.0, end=3.0)

    def __call__(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T_μ(p) = sign(p)·v·max(v, m)^{1/μ-1} with v = min(|p|, t), with the shape and dtype of `p`."""
        wide, mu = _widened(p, mu)
        size = wide.abs().clamp(max=self.t)
        return torch.copysign(size * size.clamp(min=self.m) ** (1 / mu - 1), wide).to(p.dtype)

    def derivative(self, p: Tensor, mu: float | Tensor) -> Tensor:
        """Return T'_μ(p), which is m^{1/μ-1} for |p| < m, |p|^{1/μ-1}/μ for m ≤ |p| ≤ t and 0 beyond."""
        wide, mu = _widened(p, mu)
        size = wide.abs()
        slope = size.clamp(self.m, self.t) ** (1 / mu - 1)
        slope = torch.where(size < self.m, slope, slope / mu)
        return (hardtanh.derivative(wide / self.t, 1.0) * slope).to(p.dtype)


def _widened(p: Tensor, mu: float | Tensor) -> tuple[Tensor, Tensor]:
    """Return p and a 0-dim μ, in float32 or wider."""
    wide = widened(p)
    return wide, wide.new_ones(()) * mu


arctan = Arctan()
fast_sigmoid = FastSigmoid()
exponential = Exponential()
logistic = Logistic()
gaussian_error = GaussianError()
clip = Clip()
swish = Swish  # a family: swish(overshoot) is a member
spline = Spline  # a family: spline(*slopes) is a member
damped_triangle = DampedTriangle()
fourier = Fourier()
training_aware = TrainingAware()
soft_quantization = SoftQuantization()
power = Power()
