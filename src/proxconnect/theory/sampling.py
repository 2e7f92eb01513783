"""F and B on one mesh, with the zeros of B among its nodes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from proxconnect.theory.blackbox import BlackBox
from proxconnect.theory.mesh import Mesh, mesh

TOUCHING = 1e-13
"""A smallest |B|, relative to B around 0, that counts as a zero."""

LOST = 4e-16
"""|B|, relative to B around 0, below which it is not told from 0: about two ulp."""

_GRADED = 2.0 ** -torch.arange(8, 34, dtype=torch.float64)


@dataclass(frozen=True)
class Zero:
    """A point at which B is 0 while it is not on one side or on both."""

    x: float
    error: float
    """How far the true zero may be."""


@dataclass(frozen=True)
class Break:
    """The smallest leaves `first` to `last`, which lie side by side: one jump or kink of F or B, at `x`.

    `x` is 0 where one of its ends is 0, else the right end, as if F jumped just there.
    """

    first: int
    last: int
    x: float


@dataclass(frozen=True)
class Sample:
    """F and B of a pair on a mesh, and what can be read from it leaf by leaf."""

    F: BlackBox
    B: BlackBox
    mesh: Mesh
    zeros: tuple[Zero, ...]

    @property
    def forward(self) -> Tensor:
        """F at the nodes."""
        return self.mesh.values[0]

    @property
    def backward(self) -> Tensor:
        """B at the nodes."""
        return self.mesh.values[1]

    @cached_property
    def size(self) -> float:
        """The largest |B| around 0, to which small ones are compared."""
        return float(self.mesh.size(1))

    @cached_property
    def noise(self) -> Tensor:
        """How far rounding blurs F, by leaf."""
        return self.mesh.noise(0)

    @cached_property
    def rise(self) -> Tensor:
        """F minus its value at the left end of the leaf, at the nodes."""
        return self.forward - self.forward[:, :1]

    @cached_property
    def travel(self) -> Tensor:
        """The range of F on each leaf."""
        return self.forward.amax(1) - self.forward.amin(1)

    @cached_property
    def is_unit(self) -> Tensor:
        """Leaves on which F moves by ∫B, as far as rounding shows: dF/B = 1, or 0/0."""
        off = (self.rise - self.mesh.integrals(self.backward)).abs().amax(1)
        slack = self.noise + 1e-11 * self.mesh.width * self.backward.abs().amax(1)
        return self.mesh.smooth & (off <= slack)

    @cached_property
    def breaks(self) -> tuple[Break, ...]:
        """Jumps and kinks, each with the leaves that hold it."""
        groups: list[list[int]] = []
        for leaf in (~self.mesh.smooth).nonzero().flatten().tolist():
            if groups and groups[-1][-1] == leaf - 1:
                groups[-1].append(leaf)
            else:
                groups.append([leaf])
        low, high = self.mesh.low, self.mesh.high
        return tuple(Break(g[0], g[-1], float(low[g[0]] if low[g[0]] == 0 else high[g[0]])) for g in groups)


def sample(F: BlackBox, B: BlackBox, low: float, high: float) -> Sample:
    """F and B on [low, high], the mesh graded towards each zero of B; TooRoughError where they cannot be resolved."""
    first = Sample(F, B, mesh([F, B], low, high), ())
    zeros = tuple(_zeros(first))
    if not zeros:
        return first
    at = torch.tensor([zero.x for zero in zeros], dtype=torch.float64)[:, None]
    points = torch.cat([at, at - _GRADED, at + _GRADED], 1).flatten()
    points = points[(points > low) & (points < high)]
    return Sample(F, B, mesh([F, B], low, high, points.tolist()), zeros)


def _zeros(sampled: Sample) -> list[Zero]:
    """The zeros of B: sign changes, least magnitudes, ends of where it is 0, and breaks towards which it falls."""
    within = sampled.mesh.smooth
    x, B = sampled.mesh.x[within], sampled.backward[within]
    box = sampled.B
    found: list[Zero] = []
    left, right = B[:, :-1], B[:, 1:]
    found += _closed_in(lambda m: box(m) > 0, (left * right) < 0, x, left > 0)
    found += _closed_in(lambda m: box(m) != 0, (left == 0) != (right == 0), x, left != 0)
    found += _least(box, x, B.abs(), TOUCHING * sampled.size)
    found += _at_breaks(sampled)
    found.sort(key=lambda zero: (zero.x, zero.error))
    apart: list[Zero] = []
    for zero in found:
        if not apart or zero.x - apart[-1].x > 1e-7 * max(1.0, abs(zero.x)):
            apart.append(zero)
        elif zero.error < apart[-1].error:
            apart[-1] = zero
    return apart


def _at_breaks(sampled: Sample) -> list[Zero]:
    """The breaks at which |B| is much smaller than beside them, as where F has a vertical tangent."""
    mesh, ends = sampled.mesh, (sampled.mesh.low[0], sampled.mesh.high[-1])
    found = [(b, sampled.backward[b.first : b.last + 1].abs().flatten().min(0)) for b in sampled.breaks]
    x = torch.tensor([mesh.x[b.first : b.last + 1].flatten()[at] for b, (_, at) in found], dtype=torch.float64)
    least = torch.tensor([value for _, (value, _) in found], dtype=torch.float64)
    beside = torch.stack([sampled.B((x + side * 2.0**-8).clamp(*ends)).abs() for side in (-1.0, 1.0)]).amax(0)
    return [Zero(at, 1e-15 * max(1.0, abs(at))) for at in x[least < 1e-3 * beside].tolist()]


def _closed_in(holds: Callable[[Tensor], Tensor], where: Tensor, x: Tensor, at_left: Tensor) -> list[Zero]:
    """The points at which a condition changes, between neighbouring nodes `where` it does, by bisection."""
    low, high, truth = x[:, :-1][where], x[:, 1:][where], at_left[where]
    if not len(low):
        return []
    for _ in range(80):
        middle = (low + high) / 2
        stays = holds(middle) == truth
        low, high = torch.where(stays, middle, low), torch.where(stays, high, middle)
    return [Zero(p, 1e-15 * max(1.0, abs(p))) for p in high.tolist()]


def _least(box: BlackBox, x: Tensor, magnitude: Tensor, threshold: float) -> list[Zero]:
    """The points at which |B| has a least value below `threshold` and the sign of B does not change."""
    apart = torch.cat([x.new_ones(1), x.flatten().diff()]) > 0  # a leaf begins where the one before it ends
    flat_x, flat = x.flatten()[apart], magnitude.flatten()[apart]
    middle, low, high = flat[1:-1], flat[:-2], flat[2:]
    alone = (low != 0) & (high != 0)  # not where B is 0 for a while, which has its ends found otherwise
    least = alone & (middle <= low) & (middle <= high) & (middle < 0.8 * torch.maximum(low, high))
    a, b = flat_x[:-2][least], flat_x[2:][least]
    if not len(a):
        return []
    golden = (5**0.5 - 1) / 2
    for _ in range(100):
        c, d = b - golden * (b - a), a + golden * (b - a)
        left = box(c).abs() <= box(d).abs()
        a, b = torch.where(left, a, c), torch.where(left, d, b)
    at = torch.stack([a, (a + b) / 2, b, flat_x[1:-1][least]])
    values = box(at.flatten()).abs().reshape(at.shape)
    best = values.argmin(0)
    points = at.gather(0, best[None])[0]
    below = values.amin(0) <= threshold
    return [Zero(p, 1e-7 * max(1.0, abs(p))) for p in points[below].tolist()]
