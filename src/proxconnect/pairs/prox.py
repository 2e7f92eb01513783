"""Proximal quantisers P^μ_r(x) = argmin_z ½(z - x)² + r(z), elementwise on a tensor of any float dtype.

On the real line these are exactly the nondecreasing maps. `sign(±0) = +1` and NaN stays NaN. Every map has its limit at
±inf and overflows for no finite input. The regularizer r is that of the prox of weight one.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from proxconnect._support.arguments import number
from proxconnect.pairs.part import Part, Sharpness, widened


class Prox(Part):
    """A nondecreasing map P_μ of the real line, called as `prox(x, mu)`; a subclass states its argmin."""

    def regularizer(self, z: Tensor, mu: float | Tensor) -> Tensor:
        """Return the regularizer r(z) of P(x) = argmin_z ½(z - x)² + r(z), with the shape and dtype of `z`.

        It is +∞ outside the domain of r, and NaN for NaN. A prox without it raises NotImplementedError, and
        `theory.potential` integrates instead.
        """
        raise NotImplementedError(
            f"{type(self).__name__} states no regularizer: add regularizer(z, mu) to the class, or take "
            "proxconnect.theory.potential(prox, mu), which finds it numerically"
        )

    def at(self, mu: float) -> "Prox":
        """Return this map with its sharpness fixed at `mu`; the map itself if it does not depend on μ."""
        return self if self.sharpness is None else FixedProx(self, self.sharpness.require(mu, repr(self)))


class Identity(Prox):
    """P(x) = argmin_z ½(z - x)² = x, the identity map, with regularizer r = 0."""

    def __call__(self, x: Tensor, mu: float | Tensor) -> Tensor:
        """Return `x` itself."""
        return x

    def regularizer(self, z: Tensor, mu: float | Tensor) -> Tensor:
        """Return r(z) = 0, and NaN for NaN."""
        return torch.where(z.isnan(), z, 0.0)


class Sign(Prox):
    """P(x) = argmin_{z ∈ {-1, +1}} ½(z - x)² = sign(x), the sign, with sign(0) = +1.

    Its regularizer r is 0 at ±1 and +∞ elsewhere. Source: BinaryConnect, Courbariaux 2015 (arXiv 1511.00363).
    """

    def __call__(self, x: Tensor, mu: float | Tensor) -> Tensor:
        """Return +1 for x ≥ 0 (also for -0), -1 for x < 0 and NaN for NaN."""
        zero = x.clamp(-1.0, 1.0)  # comparisons would take ten times as long on a CPU
        zero = zero - zero  # +0, which turns -0 into +0, or NaN
        return torch.copysign(x.new_ones(()), x + zero) + zero

    def regularizer(self, z: Tensor, mu: float | Tensor) -> Tensor:
        """Return r(z), which is 0 at ±1, NaN for NaN and +∞ elsewhere."""
        return _finite_where(z.abs() == 1, z)


@dataclass(frozen=True)
class Linear(Prox):
    """P(x) = L(ρ, ϱ)(x) = sign(x) for |x| ≥ 1-ρ, else sign(x)·(ϱ + |x|(1-ϱ)/(1-ρ)), at every μ.

    If ρ < 1, it jumps from -ϱ to ϱ at 0, rises in straight lines and reaches ±1 at |x| = 1-ρ. On ϱ < |z| < 1, the
    regularizer r has r'(z) = P⁻¹(z) - z; beyond ±1, r is +∞. Source: ProxConnect, Dockhorn 2021 (arXiv 2110.13220).

    Args:
        rho: ρ, how far before ±1 the map reaches ±1.
        varrho: ϱ, half of the jump at 0.

    Raises:
        ValueError: ρ or ϱ lies outside [0, 1].
    """

    rho: float
    varrho: float

    def __post_init__(self) -> None:
        if not (0 <= self.rho <= 1 and 0 <= self.varrho <= 1):
            raise ValueError(f"L(ρ, ϱ) needs 0 <= ρ, ϱ <= 1; got ρ={self.rho}, ϱ={self.varrho}")

    def __call__(self, x: Tensor, mu: float | Tensor) -> Tensor:
        """Return P(x) = L(ρ, ϱ)(x), with the shape and dtype of `x`; `mu` is ignored."""
        if self.rho == 1:
            return sign(x, mu)
        slope = (1 - self.varrho) / (1 - self.rho)
        magnitude = self.varrho + x.abs().clamp(max=1.0) * slope
        return sign(x, mu) * magnitude.clamp(max=1.0)

    def regularizer(self, z: Tensor, mu: float | Tensor) -> Tensor:
        """Return r(z) = ½(1-ρ)/(1-ϱ)·(|z|-ϱ)₊² - ½z² for |z| ≤ 1, +∞ beyond; for |z| < ϱ it is -½z²."""
        magnitude = z.abs().clamp(max=1.0)  # finite, since the indicator is added
        slope = 0.0 if self.varrho == 1 else (1 - self.rho) / (1 - self.varrho)  # of P⁻¹
        beyond = (magnitude - self.varrho).clamp(min=0.0)
        return 0.5 * slope * beyond.square() - 0.5 * magnitude.square() + _finite_where(z.abs() <= 1, z)


class ProxConnect(Prox):
    """P_μ(x) = argmin_{|z| ≤ 1} ½(z - x)² + (1-1/μ)·dist(z, ±1) = sign(x)·min(1, 1 - 1/μ + |x|), μ ≥ 1.

    This is `Linear` with ρ = ϱ = 1-1/μ: clip(x, -1, 1) at μ = 1 and sign as μ → ∞. Source: arXiv 2110.13220.
    """

    sharpness = Sharpness(lowest=1.0, start=1.0, end=30.0)

    def __call__(self, x: Tensor, mu: float | Tensor) -> Tensor:
        """Return P_μ(x) = sign(x)·min(1, 1 - 1/μ + |x|), with the shape and dtype of `x`."""
        return sign(x, mu) * (x.abs() + _jump(x, mu)).clamp(max=1.0)

    def regularizer(self, z: Tensor, mu: float | Tensor) -> Tensor:
        """Return r(z) = (1-1/μ)·dist(z, ±1) for |z| ≤ 1, +∞ beyond."""
        return _weighted(_jump(z, mu), _distance(z)) + _finite_where(z.abs() <= 1, z)


class PARQ(Prox):
    """P_μ(x) = argmin_{|z| ≤ 1} ½(z - x)² - ½(1-1/μ)z² = clip(μx, -1, 1), μ ≥ 1.

    This is `Linear` with ρ = 1-1/μ and ϱ = 0. Seen as a prox of μx, its regularizer is the (convex) indicator of
    [-1, 1]. Source: Jin 2025 (arXiv 2503.15748).
    """

    sharpness = Sharpness(lowest=1.0, start=1.0, end=30.0)

    def __call__(self, x: Tensor, mu: float | Tensor) -> Tensor:
        """Return P_μ(x) = clip(μx, -1, 1), with the shape and dtype of `x`."""
        return (mu * x).clamp(-1.0, 1.0)

    def regularizer(self, z: Tensor, mu: float | Tensor) -> Tensor:
        """Return r(z) = -½(1-1/μ)z² for |z| ≤ 1, +∞ beyond."""
        return -0.5 * _jump(z, mu) * z.clamp(-1.0, 1.0).square() + _finite_where(z.abs() <= 1, z)


class BinaryRelax(Prox):
    """P_μ(x) = argmin_z ½(z - x)² + ½(μ-1)·dist²(z, ±1) = (x + (μ-1)·sign x)/μ, not clipped, μ ≥ 1.

    It is the identity at μ = 1. Source: Yin 2018 (arXiv 1801.06313).
    """

    sharpness = Sharpness(lowest=1.0, start=1.0, end=30.0)

    def __call__(self, x: Tensor, mu: float | Tensor) -> Tensor:
        """Return P_μ(x) = (x + (μ-1)·sign x)/μ, with the shape and dtype of `x`."""
        return x / mu + _jump(x, mu) * sign(x, mu)

    def regularizer(self, z: Tensor, mu: float | Tensor) -> Tensor:
        """Return r(z) = ½(μ-1)·dist²(z, ±1)."""
        return _weighted(0.5 * (_like(z, mu) - 1), _distance(z).square())


class ProxQuant(Prox):
    """P_μ(x) = argmin_z ½(z - x)² + λ·dist(z, ±1) = s + soft(x - s, λ), with s = sign(x), λ = μ - 1, μ ≥ 1.

    It moves x towards the nearer of ±1 by at most λ: soft(d, λ) = sign(d)·max(|d| - λ, 0). Source: Bai 2019 (arXiv
    1810.00861).
    """

    sharpness = Sharpness(lowest=1.0, start=1.0, end=2.0)

    def __call__(self, x: Tensor, mu: float | Tensor) -> Tensor:
        """Return P_μ(x), which is `x` moved towards sign(x) by at most μ - 1."""
        s = sign(x, mu)
        distance = x - s
        return s + torch.sign(distance) * (distance.abs() - (mu - 1)).clamp(min=0.0)

    def regularizer(self, z: Tensor, mu: float | Tensor) -> Tensor:
        """Return r(z) = (μ-1)·dist(z, ±1)."""
        return _weighted(_like(z, mu) - 1, _distance(z))


class Tanh(Prox):
    """P_μ(x) = argmin_z ½(z - x)² + H(z)/μ - ½z² = tanh(μx), μ > 0.

    Here H(z) = ½[(1+z)ln(1+z) + (1-z)ln(1-z)], so that H(±1) = ln 2. Source: mirror descent, Ajanthan 2021 (arXiv
    1910.08237).
    """

    sharpness = Sharpness(lowest=0.0, start=0.1, end=30.0)

    def __call__(self, x: Tensor, mu: float | Tensor) -> Tensor:
        """Return P_μ(x) = tanh(μx), with the shape and dtype of `x`."""
        return torch.tanh(mu * x)

    def regularizer(self, z: Tensor, mu: float | Tensor) -> Tensor:
        """Return r(z) = H(z)/μ - ½z² for |z| ≤ 1, +∞ beyond, with H(z) = ½[(1+z)ln(1+z) + (1-z)ln(1-z)]."""
        m = z.abs().clamp(max=1.0)
        entropy: Tensor = 0.5 * ((1 + m) * torch.log1p(m) + torch.special.xlog1py(1 - m, -m))
        return entropy / _like(z, mu) - 0.5 * m.square() + _finite_where(z.abs() <= 1, z)


class Gap(Prox):
    """P_μ(x) = argmin_{|z| ≥ c·μ^-p} ½(z - x)² = sign(x)·max(c·μ^-p, |x|), which moves points out of a gap around 0.

    c = 0 gives the identity, c = 1 the prox of BNN (arXiv 1602.02830). The regularizer r is 0 for |z| ≥ c·μ^-p, and +∞
    inside. With p > 0 the gap closes as μ grows.

    Args:
        c: half of the gap at μ = 1, at least 0.
        power: p, at least 0; 0 for a gap that does not depend on μ.

    Raises:
        ValueError: c or p is negative or not finite.
        TypeError: c or p is no number.
    """

    def __init__(self, c: float = 1.0, power: float = 0.0) -> None:
        self.c, self.power = number(c, "gap: c"), number(power, "gap: power")
        if not (0 <= self.c < math.inf and 0 <= self.power < math.inf):
            raise ValueError(f"gap(c, power) needs finite c and power of at least 0; got {c:g} and {power:g}")
        if self.power:
            self.sharpness = Sharpness(lowest=0.0, start=0.1, end=30.0)

    def __repr__(self) -> str:
        return f"Gap({self.c:g}, {self.power:g})" if self.power else f"Gap({self.c:g})"

    def __call__(self, x: Tensor, mu: float | Tensor) -> Tensor:
        """Return P_μ(x) = sign(x)·max(c·μ^-p, |x|), with the shape and dtype of `x`."""
        edge = self._edge(x, mu)
        return torch.where(x.abs() <= edge, sign(x, mu) * edge, x)

    def regularizer(self, z: Tensor, mu: float | Tensor) -> Tensor:
        """Return r(z), which is 0 for |z| ≥ c·μ^-p, +∞ inside and NaN for NaN."""
        return _finite_where(z.abs() >= self._edge(z, mu), z)

    def _edge(self, x: Tensor, mu: float | Tensor) -> float | Tensor:
        """Return c·μ^-p in the dtype of x, finite and rounded towards 0: at p = 1, μ·P never leaves [-c, c] by it."""
        if not self.power:
            return self.c
        info = torch.finfo(x.dtype)
        exact = self.c * (widened(x).new_ones(()) * mu) ** -self.power
        edge = exact.clamp(max=info.max).to(x.dtype)
        return torch.where(edge > exact, edge * (1 - info.eps), edge)


@dataclass(frozen=True)
class FixedProx(Prox):
    """A prox map that always uses the stored sharpness and ignores the μ of a call."""

    prox: Prox
    mu: float

    def __call__(self, x: Tensor, mu: float | Tensor) -> Tensor:
        """Return the wrapped map at `x` and the stored sharpness; `mu` is ignored."""
        return self.prox(x, self.mu)

    def regularizer(self, z: Tensor, mu: float | Tensor) -> Tensor:
        """Return the regularizer r(z) of the wrapped map at the stored sharpness; `mu` is ignored."""
        return self.prox.regularizer(z, self.mu)


def _like(x: Tensor, mu: float | Tensor) -> float | Tensor:
    """Return μ in the dtype of x."""
    return mu.to(x.dtype) if isinstance(mu, Tensor) else mu


def _jump(x: Tensor, mu: float | Tensor) -> float | Tensor:
    """Return 1 - 1/μ, half of the jump at 0, in the dtype of x."""
    return 1 - 1 / _like(x, mu)


def _distance(z: Tensor) -> Tensor:
    """Return dist(z, ±1)."""
    return (z.abs() - 1).abs()


def _weighted(weight: float | Tensor, penalty: Tensor) -> Tensor:
    """Return weight · penalty, with 0 · ∞ = 0, as at μ = 1."""
    return torch.where(penalty.isinf() & (weight == 0), 0.0, weight * penalty)


def _finite_where(allowed: Tensor, z: Tensor) -> Tensor:
    """Return the indicator of a set: 0 if z is allowed, NaN for NaN, else +∞."""
    return torch.where(allowed, 0.0, torch.where(z.isnan(), z, torch.inf))


identity = Identity()
sign = Sign()
linear = Linear  # a family: prox.linear(rho, varrho) is a member
proxconnect = ProxConnect()
parq = PARQ()
binaryrelax = BinaryRelax()
proxquant = ProxQuant()
tanh = Tanh()
gap = Gap  # a family: prox.gap(c, power) is a member
outward = Gap(1.0)
