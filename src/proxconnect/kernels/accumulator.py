"""Narrow accumulators: how the integer sums of ±1 products overflow."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from proxconnect._support.arguments import require_number

Overflow = Literal["wrap", "saturate", "cyclic"]
Derivative = Literal["exact", "clamp"]

MOST_BITS = 24
"""float32, which computes the sums, holds all integers of 24 bits."""
STEEPEST = 1000
"""The largest slope of a cyclic activation."""


@dataclass(frozen=True)
class Accumulator:
    """An accumulator of `bits` bits, which holds the integers from -2^(bits-1) to 2^(bits-1) - 1.

    It acts on the unscaled sum z of ±1 products, before the scale and the bias; a soft z is real, and the same map
    applies to it. With M = 2^(bits-1), `overflow` is

    - "wrap": z ↦ ((z + M) mod 2M) - M, what additions of that width do in any order;
    - "saturate": the exact sum clamped to [-M, M - 1];
    - "cyclic": the wrapped z through WrapNet's cyclic activation (Ni 2021, arXiv 2007.13242) of slope k: z itself for
      |z| ≤ Mk/(k+1), beyond which it falls by k to 0 at ±M, so that the map is continuous where it wraps. A deployed
      accumulator wraps; the activation follows it.

    `derivative` is "exact", the map's own almost everywhere (1 for "wrap", which makes a gradient point the wrong way
    across an overflow), or "clamp", 1 for the sums that it can hold and 0 for the others. Where sums overflow often,
    "clamp" and an `OverflowPenalty` train "wrap" better.

    ValueError for `bits` that are no integer from 2 to 24, an unknown `overflow` or `derivative` and a slope outside
    (0, 1000].

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
        if type(self.bits) is not int or not 2 <= self.bits <= MOST_BITS:
            raise ValueError(f"bits must be an integer from 2 to {MOST_BITS}; got {self.bits!r}")
        if self.overflow not in get_args(Overflow):
            raise ValueError(f"overflow must be one of {', '.join(get_args(Overflow))}; got {self.overflow!r}")
        require_number(self.slope, "slope")
        if not 0 < self.slope <= STEEPEST:
            raise ValueError(f"slope must be positive and at most {STEEPEST}; got {self.slope!r}")
        if self.derivative not in get_args(Derivative):
            raise ValueError(f"derivative must be one of {', '.join(get_args(Derivative))}; got {self.derivative!r}")

    @property
    def bound(self) -> int:
        """M = 2^(bits-1)."""
        return 1 << (self.bits - 1)

    def __call__(self, sums: Tensor) -> Tensor:
        """Return what the accumulator holds of `sums`, of any shape, in their float dtype."""
        held = self._map(sums)
        if self.derivative == "exact":
            return held
        clamped: Tensor = _WithDerivativeOf.apply(held.detach(), sums.clamp(-self.bound, self.bound - 1))
        return clamped

    def overflows(self, sums: Tensor) -> Tensor:
        """Return which of `sums` it cannot hold, as booleans."""
        return (sums < -self.bound) | (sums > self.bound - 1)

    def excess(self, sums: Tensor) -> Tensor:
        """Return how far |z| is beyond M, in units of M; 0 for sums within."""
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


class _WithDerivativeOf(torch.autograd.Function):
    """`value` forward, and the gradient of `other`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, other: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient
