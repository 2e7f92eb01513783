"""Isolated zeros of B, at which ∫dF/B must stay finite."""

from collections.abc import Iterator

import torch
from torch import Tensor

from proxconnect.theory.findings import Finding
from proxconnect.theory.sampling import Sample, Zero

DIVERGES, CONVERGES = 0.01, 0.05
"""The integral over a shell of size d goes as d^s, and diverges for s ≤ 0; float64 cannot tell between these two s."""


def diverging(sample: Sample) -> Iterator[Finding]:
    """∫dF/B diverges at an isolated zero of B."""
    low, high = float(sample.mesh.low[0]), float(sample.mesh.high[-1])
    open_at = _unsettled(sample)
    for zero in sample.zeros:
        for side in (-1.0, 1.0):
            end = zero.x + side * 2.0**-8
            interval = (min(zero.x, end), max(zero.x, end))
            first, last = torch.searchsorted(open_at, torch.tensor(interval, dtype=torch.float64)).tolist()
            if not low < zero.x + side * 1e-9 < high or first == last:
                continue
            order = _order(sample, zero, side)
            if order is None or DIVERGES < order <= CONVERGES:
                yield Finding(f"whether ∫dF/B diverges at the zero of B at x = {zero.x:.6g} is too near to tell",
                              interval, decided=False)  # fmt: skip
            elif order <= DIVERGES:
                yield Finding(f"∫dF/B diverges at the zero of B at x = {zero.x:.6g}, towards which F moves", interval)


def _unsettled(sample: Sample) -> Tensor:
    """The middles of the leaves on which F moves otherwise than by ∫B and B is not 0, ascending."""
    still = (sample.travel <= sample.noise) | (sample.backward == 0).all(1)
    return sample.mesh.x.mean(1)[sample.mesh.smooth & ~sample.is_unit & ~still]


def _order(sample: Sample, zero: Zero, side: float) -> float | None:
    """s where the integral over the shell from d/2 to d from the zero goes as d^s; None where too little shows."""
    near, far = (_shells(sample, zero, side, 2.0**-k) for k in (8, 0))
    shells = near if len(near) >= 4 else far
    if len(shells) < 4:
        return None
    tail = shells[-8:].log2()
    return float((tail[0] - tail[-1]) / (len(tail) - 1))


def _shells(sample: Sample, zero: Zero, side: float, start: float) -> Tensor:
    """|∫dF/B| over shells from d/2 to d, d = start, start/2, ..., as far as F and B show above their rounding."""
    distance = start * 2.0 ** -torch.arange(0, 42, dtype=torch.float64)
    distance = distance[distance <= _reach(sample, zero, side)]
    F, B = sample.F(zero.x + side * distance), sample.B(zero.x + side * 0.7 * distance)[:-1].abs()
    rise, eps = F.diff().abs(), torch.finfo(torch.float64).eps
    shows = (rise > 500 * eps * F.abs().max()) & (500 * eps * B.amax() < B) & (distance[1:] > 1e3 * zero.error)
    shells: Tensor = (rise / B)[: int(shows.long().cumprod(0).sum())]
    return shells


def _reach(sample: Sample, zero: Zero, side: float) -> float:
    """How far it is from a zero to the next one, or to a break or an end of the mesh."""
    low, high = float(sample.mesh.low[0]), float(sample.mesh.high[-1])
    others = [low, high, *(other.x for other in sample.zeros), *(b.x for b in sample.breaks)]
    return min((side * (x - zero.x) for x in others if side * (x - zero.x) > 1e-9), default=0.0)
