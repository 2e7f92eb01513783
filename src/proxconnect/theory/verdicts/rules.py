"""Rules that a legitimate pair keeps: F and B are functions of P = ∫dF/B, and P never falls.

Each function yields the places at which a rule breaks. `plateaus` holds the rule for plateaus of F.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from proxconnect.theory.functions.blackbox import Function
from proxconnect.theory.functions.mesh import bisected
from proxconnect.theory.verdicts.sampling import LOST, Break, Sample, Zero, runs

DIVERGES, CONVERGES = 0.01, 0.05
"""The integral over a shell of size d goes as d^s, and diverges for s ≤ 0; float64 cannot tell between these two s."""


@dataclass(frozen=True)
class Finding:
    """One place at which a rule breaks."""

    reason: str
    interval: tuple[float, float]
    """The place; equal ends for a point."""
    by_convention: bool = False
    """True if only the convention is against the pair."""
    decided: bool = True
    """False if float64 cannot tell; the verdict is None if there is no other finding."""


def falling(sample: Sample) -> Iterator[Finding]:
    """Find where F moves against the sign of B, so that P = ∫dF/B falls."""
    mesh = sample.mesh
    centre = mesh.x.shape[1] // 2
    steps = sample.forward.diff(dim=1)
    sign = sample.backward[:, centre].sign()[:, None]
    wrong = (steps * sign < -sample.noise[:, None]).any(1) & mesh.smooth & ~sample.is_unit
    for first, last in runs(wrong):
        interval = (float(mesh.low[first]), float(mesh.high[last]))
        direction = "rises" if float(steps[first].sum()) > 0 else "falls"
        B = float(sample.backward[(first + last) // 2, centre])
        yield Finding(f"F {direction} where B has the other sign ({B:.3g}), so that P = ∫dF/B falls", interval)


def moving_without_push(sample: Sample) -> Iterator[Finding]:
    """Find where F moves although B is 0."""
    mesh = sample.mesh
    tiny = sample.backward.abs().amax(1) <= LOST * sample.size
    still = (sample.backward == 0).any(1) | (sample.backward[:, 0] * sample.backward[:, -1] < 0)
    wrong = mesh.smooth & tiny & still & ~_is_still(sample) & ~sample.is_unit
    for first, last in runs(wrong):
        low, high = float(mesh.low[first]), float(mesh.high[last])
        moved = float((sample.forward[last, -1] - sample.forward[first, 0]).abs())
        if bool((sample.backward[first : last + 1] != 0).any()) or glides(sample.B, low, high, mesh.ends):
            yield Finding(
                f"F moves by {moved:.3g} where B is lost in rounding: 0 would make the pair illegitimate, less than "
                f"{LOST * sample.size:.1g} would not",
                (low, high), decided=False,
            )  # fmt: skip
        else:
            yield Finding(f"F moves by {moved:.3g} where B is 0", (low, high))


def _is_still(sample: Sample) -> Tensor:
    """Mark the leaves on which F does not move, up to rounding."""
    return sample.forward.amax(1) - sample.forward.amin(1) <= sample.noise


def glides(
    function: Function, low: float, high: float, ends: tuple[float, float], shares: tuple[float, float] = (1e-12, 1e-6)
) -> bool:
    """Return whether a function leaves its value on [low, high] exponentially slowly, not at a kink or a jump.

    At a kink of order n, the distances at which it has moved by two shares of its size, 1e-12 and 1e-6, are as 1 to
    10^(6/n). On an exponential tail they are as 1 to 2.
    """
    for edge, side in ((low, -1.0), (high, 1.0)):
        distance = torch.logspace(-15, 2, 4000, dtype=torch.float64) * max(1.0, abs(edge))
        x = (edge + side * distance).clamp(*ends)
        moved = (function(x) - function(torch.tensor([edge], dtype=torch.float64))).abs()
        near, far = (int((moved >= share * moved.max()).int().argmax()) for share in shares)
        if far - near > 2 and float(distance[near]) > 0.15 * float(distance[far]):
            return True
    return False


class Jump(NamedTuple):
    """A jump of F by `rise` at a break, with B just before, at and just after it."""

    at: Break
    rise: float
    before: float
    here: float
    after: float


def jumps(sample: Sample) -> Iterator[Jump]:
    """Find the breaks at which F jumps; at the others it is only steep."""
    mesh, B = sample.mesh, sample.backward
    found = [at for at in sample.breaks if _is_jump(sample, at)]
    for at, landing in zip(found, sample.B(_landings(sample, found)).tolist(), strict=True):
        rise = float(sample.forward[at.last, -1] - sample.forward[at.first, 0])
        before, after = float(B[at.first, 0]), float(B[at.last, -1])
        yield Jump(at, rise, before, before if float(mesh.low[at.first]) == at.x else landing, after)


def _is_jump(sample: Sample, at: Break) -> bool:
    mesh, F = sample.mesh, sample.forward
    rise = float((F[at.last, -1] - F[at.first, 0]).abs())
    if rise <= max(1e-12 * float(F[at.first].abs().max()), float(sample.noise[at.first])):
        return False
    reach = 2.0**12 * float(mesh.width[at.first])
    around = torch.tensor([at.x - reach, at.x + reach], dtype=torch.float64).clamp(*mesh.ends)
    return rise >= 0.8 * float(sample.F(around).diff().abs())


def _landings(sample: Sample, found: list[Break]) -> Tensor:
    """Return the first float64 at which F is nearer to its value after each jump than to that before, (n,)."""
    first = torch.tensor([at.first for at in found], dtype=torch.long)
    last = torch.tensor([at.last for at in found], dtype=torch.long)
    before, after = sample.forward[first, 0], sample.forward[last, -1]

    def is_before(x: Tensor) -> Tensor:
        F = sample.F(x)
        return (F - after).abs() >= (F - before).abs()

    return bisected(sample.mesh.low[first], sample.mesh.high[last], is_before)[1]


def wrong_jumps(sample: Sample, found: list[Jump]) -> Iterator[Finding]:
    """Find jumps of F at which B is 0 or of the other sign: P jumps by ΔF/B(x₀), which must not be down."""
    for jump in found:
        interval = (jump.at.x, jump.at.x)
        if abs(jump.here) <= LOST * sample.size:
            yield Finding(f"F jumps by {jump.rise:.6g} at x = {jump.at.x:.6g}, where B is 0", interval, True)
        elif jump.rise / jump.here < 0:
            yield Finding(
                f"F jumps by {jump.rise:.6g} at x = {jump.at.x:.6g}, where B = {jump.here:.6g} has the other sign, so "
                "that P jumps down",
                interval, True,
            )  # fmt: skip


def diverging(sample: Sample) -> Iterator[Finding]:
    """Find isolated zeros of B at which ∫dF/B diverges."""
    low, high = sample.mesh.ends
    still = _is_still(sample) | (sample.backward == 0).all(1)
    open_at = sample.mesh.x.mean(1)[sample.mesh.smooth & ~sample.is_unit & ~still]  # F moves, but not by ∫B
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


def _order(sample: Sample, zero: Zero, side: float) -> float | None:
    """Return s if the integral over the shell from d/2 to d from the zero goes as d^s; None if too little shows."""
    near, far = (_shells(sample, zero, side, 2.0**-k) for k in (8, 0))
    shells = near if len(near) >= 4 else far
    if len(shells) < 4:
        return None
    tail = shells[-8:].log2()
    return float((tail[0] - tail[-1]) / (len(tail) - 1))


def _shells(sample: Sample, zero: Zero, side: float, start: float) -> Tensor:
    """Return |∫dF/B| over shells from d/2 to d, d = start, start/2, ..., as far as rounding does not hide F and B."""
    others = [*sample.mesh.ends, *(other.x for other in sample.zeros), *(b.x for b in sample.breaks)]
    reach = min((side * (x - zero.x) for x in others if side * (x - zero.x) > 1e-9), default=0.0)
    distance = start * 2.0 ** -torch.arange(0, 42, dtype=torch.float64)
    distance = distance[distance <= reach]
    F, B = sample.F(zero.x + side * distance), sample.B(zero.x + side * 0.7 * distance)[:-1].abs()
    rise, eps = F.diff().abs(), torch.finfo(torch.float64).eps
    shows = (rise > 500 * eps * F.abs().max()) & (500 * eps * B.amax() < B) & (distance[1:] > 1e3 * zero.error)
    shells: Tensor = (rise / B)[: int(shows.long().cumprod(0).sum())]
    return shells
