"""F and B on one mesh, with the zeros of B among its nodes."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from proxconnect.theory.functions.blackbox import BlackBox, Function
from proxconnect.theory.functions.mesh import Mesh, bisected, mesh, size_of

LOST = 4e-16
"""|B| up to this share of B around 0 counts as rounding of 0: about two ulp."""

_GRADED = 2.0 ** -torch.arange(8, 34, dtype=torch.float64)


class Zero(NamedTuple):
    """A point `x` at which B is 0 or almost 0, while it is not on one side or on both."""

    x: float
    error: float
    """The greatest distance of `x` from the true zero."""


class Break(NamedTuple):
    """One jump, kink or steep part of F or B, at `x`, in adjacent narrow leaves (intervals) `first` to `last`."""

    first: int
    last: int
    x: float


class Sample:
    """F and B of a pair on a mesh, with the zeros of B, and quantities of each leaf (interval) of the mesh."""

    def __init__(self, F: BlackBox, B: BlackBox, mesh: Mesh, zeros: tuple[Zero, ...]) -> None:
        self.F, self.B, self.mesh, self.zeros = F, B, mesh, zeros
        self.forward, self.backward = mesh.values  # at the nodes
        self.size = float(size_of(mesh.x, self.backward))
        """The largest |B| around x = 0, to which small |B| are compared; see `size_of`."""
        self.noise = mesh.noise()
        """How far rounding may move F on each leaf, (leaves,)."""
        self.is_still = self.forward.amax(1) - self.forward.amin(1) <= self.noise
        """True for leaves on which F does not move, up to rounding."""
        off = (self.forward - self.forward[:, :1] - mesh.integrals(self.backward)).abs().amax(1)
        slack = self.noise + 1e-11 * mesh.width * self.backward.abs().amax(1)
        self.is_unit = mesh.smooth & (off <= slack)
        """True for leaves on which F moves by ∫B up to rounding: dF/B is 1, or 0/0."""
        low, high = mesh.low, mesh.high
        self.breaks = [Break(a, b, float(low[a] if low[a] == 0 else high[a])) for a, b in runs(~mesh.smooth)]

    def around_zero(self, unknown: list[tuple[float, float]]) -> "Sample | None":
        """Return the part around 0 up to the nearest of the intervals `unknown`, or None if F does not move there."""
        low, high = self.mesh.ends
        origin = min(max(0.0, low), high)
        if any(first <= origin <= last for first, last in unknown):
            return None
        low = max([low, *(last for _, last in unknown if last < origin)])
        high = min([high, *(first for first, _ in unknown if first > origin)])
        inside = (self.mesh.low >= low) & (self.mesh.high <= high)
        if not bool((inside & ~self.is_still).any()):
            return None
        leaves = Mesh(self.mesh.x[inside], tuple(v[inside] for v in self.mesh.values), self.mesh.smooth[inside])
        return Sample(self.F, self.B, leaves, tuple(zero for zero in self.zeros if low <= zero.x <= high))


def runs(holds: Tensor) -> Iterator[tuple[int, int]]:
    """Iterate over the first and last index of each run of True in the booleans `holds`, (n,)."""
    no = torch.zeros(1, dtype=torch.int8)
    steps = torch.cat([no, holds.to(torch.int8), no]).diff()
    starts, ends = (steps == 1).nonzero().flatten(), (steps == -1).nonzero().flatten() - 1
    return iter(zip(starts.tolist(), ends.tolist(), strict=True))


def sample(F: BlackBox, B: BlackBox, low: float, high: float) -> Sample:
    """Return a `Sample` on a mesh of [low, high] with small leaves towards zeros of B.

    TooRoughError from `mesh`; ProbeError from F and B, as for infinite values.
    """
    first = Sample(F, B, mesh([F, B], low, high), ())
    zeros = tuple(_zeros(first))
    if not zeros:
        return first
    at = torch.tensor([zero.x for zero in zeros], dtype=torch.float64)[:, None]
    points = torch.cat([at, at - _GRADED, at + _GRADED], 1).flatten()
    points = points[(points > low) & (points < high)]
    return Sample(F, B, mesh([F, B], low, high, points.tolist()), zeros)


def _zeros(sampled: Sample) -> list[Zero]:
    """Find the zeros of B: sign changes, least magnitudes, ends of stretches of 0, and breaks at which it vanishes."""
    within = sampled.mesh.smooth
    x, B = sampled.mesh.x[within], sampled.backward[within]
    box = sampled.B
    left, right = B[:, :-1], B[:, 1:]
    found = _closed_in(lambda m: box(m) > 0, (left * right) < 0, x, left > 0)
    found += _closed_in(lambda m: box(m) != 0, (left == 0) != (right == 0), x, left != 0)
    found += _least(box, x, B.abs(), 1e-13 * sampled.size)
    found += _at_breaks(sampled)
    apart: list[Zero] = []
    for zero in sorted(found):
        if not apart or zero.x - apart[-1].x > 1e-7 * max(1.0, abs(zero.x)):
            apart.append(zero)
        elif zero.error < apart[-1].error:
            apart[-1] = zero
    return apart


def _as_zeros(points: Tensor, precision: float = 1e-15) -> list[Zero]:
    return [Zero(x, precision * max(1.0, abs(x))) for x in points.tolist()]


def _at_breaks(sampled: Sample) -> list[Zero]:
    """Find the breaks at which |B| is much smaller than beside them, as at a vertical tangent of F."""
    found = [(b, sampled.backward[b.first : b.last + 1].abs().flatten().min(0)) for b in sampled.breaks]
    x = torch.tensor([sampled.mesh.x[b.first : b.last + 1].flatten()[at] for b, (_, at) in found], dtype=torch.float64)
    least = torch.tensor([value for _, (value, _) in found], dtype=torch.float64)
    beside = [sampled.B((x + shift).clamp(*sampled.mesh.ends)).abs() for shift in (-(2.0**-8), 2.0**-8)]
    return _as_zeros(x[least < 1e-3 * torch.maximum(*beside)])


def _closed_in(holds: Function, changes: Tensor, x: Tensor, at_left: Tensor) -> list[Zero]:
    """Find the points at which a condition changes, between the neighbouring nodes that `changes` marks."""
    low, high, truth = x[:, :-1][changes], x[:, 1:][changes], at_left[changes]
    if not len(low):
        return []
    return _as_zeros(bisected(low, high, lambda middle: holds(middle) == truth)[1])


def _least(box: BlackBox, x: Tensor, magnitude: Tensor, threshold: float) -> list[Zero]:
    """Find the minima of |B| that are at most `threshold`, without a change of sign, by golden sections."""
    apart = torch.cat([x.new_ones(1), x.flatten().diff()]) > 0  # a leaf begins at the end of the one before it
    flat_x, flat = x.flatten()[apart], magnitude.flatten()[apart]
    middle, low, high = flat[1:-1], flat[:-2], flat[2:]
    alone = (low != 0) & (high != 0)  # stretches of 0 have their ends found by `_closed_in`
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
    points = at.gather(0, values.argmin(0)[None])[0]
    return _as_zeros(points[values.amin(0) <= threshold], 1e-7)
