"""Narrow accumulators: how the integer sums of ±1 products overflow."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Overflow = Literal["wrap", "saturate", "cyclic"]

MOST_BITS = 24
"""float32, which computes the sums, holds all integers of 24 bits."""


@dataclass(frozen=True)
class Accumulator:
    """An accumulator of `bits` bits, which holds the integers from -2^(bits-1) to 2^(bits-1) - 1.

    It acts on the unscaled sum z of ±1 products, before the scale and the bias; a soft z is real, and the same map
    applies to it. With M = 2^(bits-1), `overflow` is

    - "wrap": z ↦ ((z + M) mod 2M) - M, what additions of that width do in any order; derivative 1;
    - "saturate": the exact sum clamped to [-M, M - 1]; the clamp's derivative;
    - "cyclic": the wrapped z through WrapNet's cyclic activation (Ni 2021, arXiv 2007.13242) of slope k: z itself for
      |z| ≤ Mk/(k+1), beyond which it falls by k to 0 at ±M, so that the map is continuous where it wraps; derivative 1
      and -k. A deployed accumulator wraps; the activation follows it.

    ValueError for `bits` that are no integer from 2 to 24, an unknown `overflow` and a slope that is not positive.
    """

    bits: int = 8
    overflow: Overflow = "wrap"
    slope: float = 2.0

    def __post_init__(self) -> None:
        if type(self.bits) is not int or not 2 <= self.bits <= MOST_BITS:
            raise ValueError(f"bits must be an integer from 2 to {MOST_BITS}; got {self.bits!r}")
        if self.overflow not in get_args(Overflow):
            raise ValueError(f"overflow must be one of {', '.join(get_args(Overflow))}; got {self.overflow!r}")
        if not 0 < self.slope < float("inf"):
            raise ValueError(f"slope must be positive and finite; got {self.slope!r}")

    @property
    def bound(self) -> int:
        """M = 2^(bits-1)."""
        return 1 << (self.bits - 1)

    def __call__(self, sums: Tensor) -> Tensor:
        """What the accumulator holds of `sums`, of any shape, in their float dtype."""
        if self.overflow == "saturate":
            return sums.clamp(-self.bound, self.bound - 1)
        wrapped = torch.remainder(sums + self.bound, 2 * self.bound) - self.bound
        if self.overflow == "wrap":
            return wrapped
        falling = self.slope * (self.bound - wrapped.abs()) * wrapped.sign()
        return torch.where(wrapped.abs() * (self.slope + 1) <= self.slope * self.bound, wrapped, falling)

    def overflows(self, sums: Tensor) -> Tensor:
        """Which of `sums` it cannot hold, as booleans."""
        return (sums < -self.bound) | (sums > self.bound - 1)

    def __str__(self) -> str:
        slope = f" of slope {self.slope:g}" if self.overflow == "cyclic" else ""
        return f"{self.bits}-bit {self.overflow}{slope}"
