"""The rules that a legitimate pair keeps, each looked for on the mesh.

F and B must be functions of P = ∫dF/B, and P must not fall. Each function here yields where that breaks, whether only a
convention says so, and whether float64 can tell.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from proxconnect.theory.blackbox import BlackBox
from proxconnect.theory.mesh import Mesh
from proxconnect.theory.sampling import Break, Sample, Zero

RESOLVED = 1e-10
"""B below this share of its size around 0, on a plateau of F, is not told from 0."""

CONSTANT = 1e-10
"""B that varies by less than this share is constant."""

SIGNIFICANT = 1e3
"""A plateau of F is long enough when a slope B would have moved F by so many times its rounding."""


NARROW = 1 / 2000
"""What is narrower than this share of max(1, |x|) is no plateau: to rounding x³ does not move for |x| < 1e-5."""


@dataclass(frozen=True)
class Finding:
    """One place where a rule breaks."""

    reason: str
    interval: tuple[float, float]
    by_convention: bool = False
    decided: bool = True


class Plateau(NamedTuple):
    """Leaves `first` to `last` on which F does not move though B would move it; P is flat where `flat`, else free."""

    first: int
    last: int
    flat: Tensor
    """(last - first + 1,) booleans."""
    stretches: tuple[Tensor, ...]
    """The flat leaves on which F surely stays, those together that no free part lies between."""
    interval: tuple[float, float]


def plateaus(sample: Sample) -> Iterator[Plateau]:
    """The stretches on which F stays, to rounding, and B is not lost in rounding."""
    mesh, B = sample.mesh, sample.backward.abs()
    push = B.mean(1) * mesh.width
    for first, last in _level_runs(sample):
        leaves = slice(first, last + 1)
        if float(push[leaves].sum()) <= SIGNIFICANT * float(sample.noise[leaves].max()):
            continue
        flat = mesh.smooth[leaves] & (B[leaves].amax(1) > RESOLVED * sample.size)
        if bool(flat.any()):
            interval = (float(mesh.low[first]), float(mesh.high[last]))
            settled = first + (flat & _settled(mesh, first, last)).nonzero().flatten()
            yield Plateau(first, last, flat, _stretches(mesh, settled), interval)


def _level_runs(sample: Sample) -> Iterator[tuple[int, int]]:
    """First and last leaf of each stretch on which the range of F is within its rounding."""
    low, high = sample.forward.amin(1).tolist(), sample.forward.amax(1).tolist()
    noise = sample.noise.tolist()
    first, bottom, top = 0, low[0], high[0]
    for leaf in range(1, len(low) + 1):
        if leaf < len(low):
            new_bottom, new_top = min(bottom, low[leaf]), max(top, high[leaf])
            if new_top - new_bottom <= 2 * noise[leaf]:
                bottom, top = new_bottom, new_top
                continue
        if top - bottom <= 2 * noise[leaf - 1]:
            yield first, leaf - 1
        if leaf < len(low):
            first, bottom, top = leaf, low[leaf], high[leaf]


def _settled(mesh: Mesh, first: int, last: int) -> Tensor:
    """Leaves of a level stretch, but for narrow parts beside breaks and at the ends, where F may begin to move."""
    leaves = slice(first, last + 1)
    low, high, smooth = mesh.low[leaves], mesh.high[leaves], mesh.smooth[leaves]
    part = (~smooth).cumsum(0)
    width = torch.zeros(len(part), dtype=torch.float64).index_add(0, part, (high - low) * smooth)
    margin = NARROW * torch.maximum(low.abs(), high.abs()).clamp(min=1)
    settled = width[part] > margin
    if first > 0 and bool(mesh.smooth[first - 1]):
        settled &= high > low[0] + margin
    if last + 1 < len(mesh.x) and bool(mesh.smooth[last + 1]):
        settled &= low < high[-1] - margin
    return settled


def _stretches(mesh: Mesh, flat: Tensor) -> tuple[Tensor, ...]:
    """Flat leaves, divided where the next one is farther off than a break is wide."""
    if not len(flat):
        return ()
    apart = mesh.low[flat[1:]] - mesh.high[flat[:-1]] > 1e-9
    return torch.tensor_split(flat, (apart.nonzero().flatten() + 1).tolist())


def varying_on_plateaus(sample: Sample, found: list[Plateau]) -> Iterator[Finding]:
    """F is flat and B is not 0: P is flat, so B must be constant there."""
    for plateau in found:
        for leaves in plateau.stretches:
            B = sample.backward[leaves]
            low, high = float(B.min()), float(B.max())
            span = max(abs(low), abs(high)) * CONSTANT
            alone = [v for v in _lone_values(sample, leaves) if min(abs(v - low), abs(v - high)) > span and v != 0]
            if high - low <= span and not alone:
                continue
            interval = (float(sample.mesh.low[leaves[0]]), float(sample.mesh.high[leaves[-1]]))
            how = f"B is not constant: it takes {low:.6g} to {high:.6g}"
            if not _varies_between_breaks(sample, leaves, span):
                how = f"F stays at {float(sample.forward[leaves[0], 0]):.6g}, so P is flat there, but {how} in steps"
                yield Finding(how, interval, by_convention=True)
            elif _saturates(sample, plateau) or _rests(sample, plateau):
                yield _too_faint(low, high, interval)
            else:
                how = f"F stays at {float(sample.forward[leaves[0], 0]):.6g}, so P is flat there, but {how}"
                yield Finding(how, interval)


def faint(sample: Sample) -> Iterator[Finding]:
    """B varies where F does not move, nor would show it if it did: a B that is tiny beside F."""
    mesh, B = sample.mesh, sample.backward
    push = B.abs().mean(1) * mesh.width
    seen = mesh.smooth & (B.abs().amax(1) > RESOLVED * sample.size)
    for first, last in _level_runs(sample):
        leaves = slice(first, last + 1)
        varied = first + seen[leaves].nonzero().flatten()
        shows = float(push[leaves].sum()) > SIGNIFICANT * float(sample.noise[leaves].max())
        if shows or not len(varied):
            continue
        interval = (float(mesh.low[varied[0]]), float(mesh.high[varied[-1]]))
        low, high = float(B[varied].min()), float(B[varied].max())
        wide = interval[1] - interval[0] > 1e-3 * max(1.0, abs(interval[0]))  # narrower is where F bends into a plateau
        if wide and high - low > CONSTANT * max(abs(low), abs(high)):
            yield _too_faint(low, high, interval)


def _too_faint(low: float, high: float, interval: tuple[float, float]) -> Finding:
    return Finding(
        f"F moves by less than float64 shows while B varies from {low:.6g} to {high:.6g}: a plateau of F would make "
        "the pair illegitimate, a slow rise would not",
        interval, decided=False,
    )  # fmt: skip


def _varies_between_breaks(sample: Sample, leaves: Tensor, span: float) -> bool:
    """Whether B varies on leaves with no break between, not only from one side of a break to the other."""
    runs = torch.tensor_split(leaves, ((leaves.diff() > 1).nonzero().flatten() + 1).tolist())
    return any(float(sample.backward[run].max() - sample.backward[run].min()) > span for run in runs)


def _lone_values(sample: Sample, leaves: Tensor) -> list[float]:
    """B at breaks between these leaves that have a value of their own, equal to neither side's."""
    first, last = int(leaves[0]), int(leaves[-1])
    return [
        float(sample.backward[b.first, -1])
        for b in sample.breaks
        if b.last > b.first and first < b.first and b.last < last
    ]


def _saturates(sample: Sample, plateau: Plateau) -> bool:
    """Whether F glides into the plateau, as tanh does, so that where it begins is a matter of rounding."""
    low, high = float(sample.mesh.low[0]), float(sample.mesh.high[-1])
    left, right = float(sample.mesh.low[plateau.first]), float(sample.mesh.high[plateau.last])
    return (left > low and glides(sample.F, left, -1.0, low, high)) or (
        right < high and glides(sample.F, right, 1.0, low, high)
    )


def _rests(sample: Sample, plateau: Plateau) -> bool:
    """Whether F may only rest at a point of the plateau, as x⁷ does: one width beyond an end it has hardly moved."""
    low, high = plateau.interval
    first, last = float(sample.mesh.low[0]), float(sample.mesh.high[-1])
    width = high - low
    beyond = [(end, x) for end, x in ((low, low - width), (high, high + width)) if first < x < last]
    moved = [float(sample.F(torch.tensor(pair, dtype=torch.float64)).diff().abs()) for pair in beyond]
    return any(m <= 1e4 * float(sample.noise[plateau.first : plateau.last + 1].max()) for m in moved)


def glides(box: BlackBox, edge: float, side: float, low: float, high: float) -> bool:
    """Whether a function leaves its value at `edge` exponentially slowly, towards `side`, not at a kink or a jump.

    At a kink of any order n the distances at which it has moved by 1e-12 and by 1e-6 of its size are as 1 to 10^(6/n);
    an exponential tail moves them by half.
    """
    distance = torch.logspace(-15, 2, 4000, dtype=torch.float64) * max(1.0, abs(edge))
    x = (edge + side * distance).clamp(low, high)
    moved = (box(x) - box(torch.tensor([edge], dtype=torch.float64))).abs()
    size = float(moved.max())
    crossings = [(moved >= share * size).nonzero() for share in (1e-12, 1e-6)]
    if size == 0 or not all(len(c) for c in crossings):
        return False
    near, far = (int(c[0]) for c in crossings)
    return far - near > 2 and float(distance[near]) > 0.15 * float(distance[far])


def falling(sample: Sample) -> Iterator[Finding]:
    """F moves against the sign of B: P = ∫dF/B falls."""
    mesh = sample.mesh
    steps = sample.forward.diff(dim=1)
    sign = sample.backward[:, mesh.x.shape[1] // 2].sign()[:, None]
    wrong = (steps * sign < -sample.noise[:, None]).any(1) & mesh.smooth & ~sample.is_unit
    for first, last in _runs(wrong):
        interval = (float(mesh.low[first]), float(mesh.high[last]))
        direction = "rises" if float(steps[first].sum()) > 0 else "falls"
        B = float(sample.backward[(first + last) // 2, mesh.x.shape[1] // 2])
        yield Finding(f"F {direction} where B has the other sign ({B:.3g}), so that P = ∫dF/B falls", interval)


def moving_without_push(sample: Sample) -> Iterator[Finding]:
    """F moves where B is 0 throughout."""
    mesh = sample.mesh
    tiny = sample.backward.abs().amax(1) <= 4e-16 * sample.size
    still = (sample.backward == 0).any(1) | (sample.backward[:, 0] * sample.backward[:, -1] < 0)
    wrong = mesh.smooth & tiny & still & (sample.travel > sample.noise) & ~sample.is_unit
    for first, last in _runs(wrong):
        low, high = float(mesh.low[first]), float(mesh.high[last])
        moved = float((sample.forward[last, -1] - sample.forward[first, 0]).abs())
        ends = float(mesh.low[0]), float(mesh.high[-1])
        lost = bool((sample.backward[first : last + 1] != 0).any())
        if (
            lost
            or (low > ends[0] and glides(sample.B, low, -1.0, *ends))
            or (high < ends[1] and glides(sample.B, high, 1.0, *ends))
        ):
            yield Finding(
                f"F moves by {moved:.3g} where B is lost in rounding: 0 would make the pair illegitimate, less than "
                f"{4e-16 * sample.size:.1g} would not",
                (low, high), decided=False,
            )  # fmt: skip
        else:
            yield Finding(f"F moves by {moved:.3g} where B is 0", (low, high))


def _runs(wrong: Tensor) -> Iterator[tuple[int, int]]:
    """First and last index of each run of True."""
    edges = torch.cat([torch.zeros(1, dtype=torch.int8), wrong.to(torch.int8), torch.zeros(1, dtype=torch.int8)]).diff()
    starts, ends = (edges == 1).nonzero().flatten(), (edges == -1).nonzero().flatten() - 1
    return iter(zip(starts.tolist(), ends.tolist(), strict=True))


class Jump(NamedTuple):
    """A jump of F at a break: by `rise`, with B just before, at and just after it."""

    at: Break
    rise: float
    before: float
    here: float
    after: float

    @property
    def step(self) -> float:
        """ΔF / B(x₀), by how much P jumps."""
        return self.rise / self.here

    @property
    def is_even(self) -> bool:
        """Whether B is the same on both sides and at the jump."""
        values = (self.before, self.here, self.after)
        return max(values) - min(values) <= 1e-9 * max(map(abs, values))


def jumps(sample: Sample) -> Iterator[Jump]:
    """The breaks at which F jumps, apart from those at which it is only steep."""
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
    around = torch.tensor([at.x - reach, at.x + reach], dtype=torch.float64).clamp(mesh.low[0], mesh.high[-1])
    return rise >= 0.8 * float(sample.F(around).diff().abs())


def _landings(sample: Sample, found: list[Break]) -> Tensor:
    """The first float64 at which F is what it is after each jump, rather than before, (n,)."""
    first = torch.tensor([at.first for at in found], dtype=torch.long)
    last = torch.tensor([at.last for at in found], dtype=torch.long)
    low, high = sample.mesh.low[first], sample.mesh.high[last]
    before, after = sample.forward[first, 0], sample.forward[last, -1]
    for _ in range(64):
        middle = (low + high) / 2
        F = sample.F(middle)
        landed = (F - after).abs() < (F - before).abs()
        low, high = torch.where(landed, low, middle), torch.where(landed, middle, high)
    return high


def wrong_jumps(sample: Sample, found: list[Jump]) -> Iterator[Finding]:
    """F jumps where B is 0, or against the sign of B."""
    for jump in found:
        interval = (jump.at.x, jump.at.x)
        if abs(jump.here) <= 4e-16 * sample.size:
            yield Finding(f"F jumps by {jump.rise:.6g} at x = {jump.at.x:.6g}, where B is 0", interval, True)
        elif jump.step < 0:
            yield Finding(
                f"F jumps by {jump.rise:.6g} at x = {jump.at.x:.6g}, where B = {jump.here:.6g} has the other sign, so "
                "that P jumps down",
                interval, True,
            )  # fmt: skip


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
            if order is None or 0.01 < order <= 0.05:
                yield Finding(f"whether ∫dF/B diverges at the zero of B at x = {zero.x:.6g} is too near to tell",
                              interval, decided=False)  # fmt: skip
            elif order <= 0.01:
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
