"""Accumulators of few bits, in which the integer sums of ±1 products overflow."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from proxconnect._support.arguments import number, whole

Overflow = Literal["wrap", "saturate", "cyclic"]
Derivative = Literal["exact", "clamp"]


@dataclass(frozen=True)
class Accumulator:
    """An accumulator of `bits` bits, which holds the integers from -2^(bits-1) to 2^(bits-1) - 1.

    It maps the unscaled sum z of ±1 products, before the scale and the bias. While weights are soft, z is real, and the
    same map applies. With M = 2^(bits-1), `overflow` is

    - "wrap": z ↦ ((z + M) mod 2M) - M, as integer additions of that width do in any order;
    - "saturate": the exact sum, clamped to [-M, M - 1];
    - "cyclic": "wrap", then WrapNet's cyclic activation (Ni 2021, arXiv 2007.13242) of slope k. It keeps z for
      |z| ≤ Mk/(k+1) and then falls with slope k to 0 at ±M, so the map is continuous at overflows.

    `derivative` is "exact" for the map's own derivative, or "clamp" for 1 where the accumulator can hold z and 0
    elsewhere. The exact derivative of "wrap" is 1, so its gradients point the wrong way across an overflow. If sums
    overflow often, "clamp" and an `OverflowPenalty` train "wrap" better.

    Raises:
        ValueError: if `bits` is not from 2 to 24, if `overflow` or `derivative` is unknown, or if the slope is outside
            (0, 1000].
        TypeError: if `bits` is no whole number, or the slope no number.

    Example:
        >>> pc.Accumulator(bits=8)(torch.tensor([100.0, 127.0, 128.0]))
        tensor([ 100.,  127., -128.])
        >>> pc.Accumulator(bits=8, overflow="saturate")(torch.tensor([100.0, 127.0, 128.0]))
        tensor([100., 127., 127.])
    """

    bits: int = 8
    overflow: Overflow = "wrap"
    slope: float = 2.0
    derivative: Derivative = "exact"

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", whole(self.bits, "bits"))
        object.__setattr__(self, "slope", number(self.slope, "slope"))
        if not 2 <= self.bits <= 24:  # float32, which adds, holds all integers of 24 bits
            raise ValueError(f"bits must be an integer from 2 to 24; got {self.bits}")
        if self.overflow not in get_args(Overflow):
            raise ValueError(f"overflow must be one of {', '.join(get_args(Overflow))}; got {self.overflow!r}")
        if not 0 < self.slope <= 1000:
            raise ValueError(f"slope must be positive and at most 1000; got {self.slope!r}")
        if self.derivative not in get_args(Derivative):
            raise ValueError(f"derivative must be one of {', '.join(get_args(Derivative))}; got {self.derivative!r}")

    @property
    def bound(self) -> int:
        """M = 2^(bits-1): the accumulator holds the integers from -M to M - 1."""
        return 1 << (self.bits - 1)

    def __call__(self, sums: Tensor) -> Tensor:
        """Return `sums` after overflow, in the same shape and float dtype."""
        held = self._map(sums)
        if self.derivative == "exact":
            return held
        clamped = sums.clamp(-self.bound, self.bound - 1)
        return held.detach() + (clamped - clamped.detach())  # the value of the first, the derivative of the second

    def overflows(self, sums: Tensor) -> Tensor:
        """Return a bool tensor of the shape of `sums`: True for sums that the accumulator cannot hold."""
        return (sums < -self.bound) | (sums > self.bound - 1)

    def excess(self, sums: Tensor) -> Tensor:
        """Return how far each sum z is beyond ±M, relative to M = `bound`: (|z| - M) / M, or 0 for |z| ≤ M."""
        return (sums.abs() / self.bound - 1).relu()

    def __str__(self) -> str:
        slope = f" of slope {self.slope:g}" if self.overflow == "cyclic" else ""
        derivative = ", derivative of clamp" if self.derivative == "clamp" else ""
        return f"{self.bits}-bit {self.overflow}{slope}{derivative}"

    def _map(self, sums: Tensor) -> Tensor:
        if self.overflow == "saturate":
            return sums.clamp(-self.bound, self.bound - 1)
        modulus = 2 * self.bound
        wrapped = sums - modulus * torch.floor(sums / modulus + 0.5)  # rounds no sum that fits, as remainder() does
        if self.overflow == "wrap":
            return wrapped
        falling = self.slope * (self.bound - wrapped.abs())
        return torch.where(wrapped.abs() <= falling, wrapped, falling * wrapped.sign())
