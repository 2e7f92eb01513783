"""P, T and r as functions that a mesh carries.

Each takes a float tensor of any shape and keeps its shape and dtype; it computes in float64, without gradient.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from proxconnect.theory.mesh import Mesh
from proxconnect.theory.sampling import Sample


class Preimage(NamedTuple):
    """Where P reaches points z: in the middle of a plateau, in a gap at the jump."""

    z: Tensor
    """The points, those outside the range of P moved to its end, (n,)."""
    leaf: Tensor
    """The first leaf on which P reaches them."""
    first: Tensor
    """The least x with P(x) = z."""
    x: Tensor
    """The middle of all of them."""
    in_gap: Tensor
    """Which of the points P jumps over."""
    below: Tensor
    above: Tensor
    """Which of the points are outside the range, and on which side."""


@dataclass(frozen=True)
class ProxCurve:
    """A nondecreasing P on a mesh, and the r of which it is the prox of weight one."""

    mesh: Mesh
    p: Tensor
    """P at the nodes, (leaves, NODES)."""
    r: Tensor
    """r(P) at the nodes, (leaves, NODES)."""
    free: Tensor
    """(leaves,): where nothing in F and B fixes P, which then moves with slope 1."""
    ends: tuple[bool, bool]
    """Whether P is flat at the left and the right end of the mesh, so that its range ends there."""

    def __call__(self, x: Tensor) -> Tensor:
        """P(x); NaN outside the domain that was looked at."""
        return _elementwise(self._value, x)

    def _value(self, x: Tensor) -> Tensor:
        leaf = self.mesh.leaf_of(x)  # P does not leave its values at the ends, on a plateau not by an ulp
        return self.mesh.interpolate(self.p, x).clamp(self.p[leaf, 0], self.p[leaf, -1])

    def regularizer(self, z: Tensor) -> Tensor:
        """r(z) = ∫(P⁻¹ - id), 0 at P(0); in a gap the curve with P⁻¹ = x₀.

        +∞ beyond a plateau that ends the range of P, NaN beyond the domain that was looked at.
        """
        return _elementwise(self._regularizer, z)

    def _regularizer(self, z: Tensor) -> Tensor:
        at = self.preimage(z)
        rise = at.z - self.p[at.leaf, 0]
        across = self.r[at.leaf, 0] + rise * (self.mesh.high[at.leaf] - (at.z + self.p[at.leaf, 0]) / 2)
        value = torch.where(at.in_gap, across, self.mesh.interpolate_on(self.r, at.leaf, at.first))
        left, right = (torch.inf if flat else torch.nan for flat in self.ends)
        return torch.where(at.above, right, torch.where(at.below, left, value))

    def preimage(self, z: Tensor) -> Preimage:
        """Where P reaches points z, (n,)."""
        top = self.p[:, -1].contiguous()
        inside = z.clamp(self.p[0, 0], top[-1])
        outside = (z - inside).abs() > 1e-9 * z.abs().clamp(min=1)
        leaf = torch.searchsorted(top, inside).clamp(max=len(top) - 1)
        low, high = self.mesh.low[leaf], self.mesh.high[leaf]
        for _ in range(60):
            middle = (low + high) / 2
            below = self.mesh.interpolate_on(self.p, leaf, middle) < inside
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        last = torch.searchsorted(top, inside, right=True) - 1  # of the leaves at whose end P is still the same
        first = torch.where(self.mesh.smooth[leaf], high, self.mesh.high[leaf])
        x = torch.where(last > leaf, (first + self.mesh.high[last]) / 2, first)
        in_gap = ~self.mesh.smooth[leaf] & (inside > self.p[leaf, 0]) & (inside < self.p[leaf, -1])
        return Preimage(inside, leaf, first, x, in_gap, outside & (z < inside), outside & (z > inside))


@dataclass(frozen=True)
class TransformCurve:
    """T on the range of P, with F = T∘P and B = T'∘P; across a gap of P it has the slope B(x₀) of the jump."""

    sample: Sample
    prox: ProxCurve
    slopes: Tensor
    """B(x₀) of the break that a leaf belongs to, (leaves,)."""

    def __call__(self, z: Tensor) -> Tensor:
        """T(z); NaN outside the range of P."""
        return _elementwise(self._value, z)

    def derivative(self, z: Tensor) -> Tensor:
        """T'(z); NaN outside the range of P."""
        return _elementwise(self._slope, z)

    def _value(self, z: Tensor) -> Tensor:
        at = self.prox.preimage(z)
        across = self.sample.forward[at.leaf, 0] + (at.z - self.prox.p[at.leaf, 0]) * self.slopes[at.leaf]
        value = torch.where(at.in_gap, across, self.sample.F(at.x))
        return torch.where(at.below | at.above | z.isnan(), torch.nan, value)

    def _slope(self, z: Tensor) -> Tensor:
        at = self.prox.preimage(z)
        value = torch.where(at.in_gap, self.slopes[at.leaf], self.sample.B(at.x))
        return torch.where(at.below | at.above | z.isnan(), torch.nan, value)


def _elementwise(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    flat = x.detach().double().cpu().reshape(-1)
    known = ~flat.isnan()
    value = torch.full_like(flat, torch.nan)
    value[known] = function(flat[known])
    return value.reshape(x.shape).to(x)
