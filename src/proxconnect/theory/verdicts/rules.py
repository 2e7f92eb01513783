"""Rules that a legitimate pair keeps: F and B are functions of P = ∫dF/B, and P never falls."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from proxconnect.theory.functions.mesh import Mesh, bisected, glides
from proxconnect.theory.verdicts.sampling import LOST, Break, Sample, Zero, runs

DIVERGES, CONVERGES = 0.01, 0.05
"""The integral over a shell of size d goes as d^s, and diverges for s ≤ 0; float64 cannot tell between these two s."""

RESOLVED = 1e-10
"""B up to this share of its size around 0, on a plateau of F, counts as rounding of 0."""

CONSTANT = 1e-10
"""B is constant if it varies by at most this share."""

STEEP = 1e-140
"""Where B is below this share of its size around 0, P = ∫dF/B is too large to be computed well."""


@dataclass(frozen=True)
class Finding:
    """One place at which a pair breaks a rule, may break it, or needs the convention."""

    reason: str
    interval: tuple[float, float]
    """The x of the place, (low, high), equal for a point."""
    by_convention: bool = False
    """True if only the convention is against the pair: T crosses a gap of P with the slope that B has at the jump."""
    decided: bool = True
    """False if float64 cannot tell; the verdict is None if there is no other finding."""


class Plateau(NamedTuple):
    """A stretch of the mesh, leaves (intervals) `first` to `last`, on which F stays though B would move it."""

    first: int
    last: int
    flat: Tensor
    """True for the leaves on which P is flat, (last - first + 1,); on other smooth ones its slope is 1."""
    stretches: tuple[Tensor, ...]
    """Indices of flat leaves on which F surely stays, one tensor for each connected part."""
    interval: tuple[float, float]


def plateaus(sample: Sample) -> Iterator[Plateau]:
    """Find the stretches on which F stays, up to rounding, though B is not 0 on a part large enough to move it."""
    mesh, B = sample.mesh, sample.backward.abs()
    for first, last, is_long in _level_runs(sample):
        if not is_long:
            continue
        leaves = slice(first, last + 1)
        flat = mesh.smooth[leaves] & (B[leaves].amax(1) > RESOLVED * sample.size)
        if bool(flat.any()):
            settled = first + (flat & _settled(mesh, first, last)).nonzero().flatten()
            apart = mesh.low[settled[1:]] - mesh.high[settled[:-1]] > 1e-9  # wider than a break
            stretches = torch.tensor_split(settled, (apart.nonzero().flatten() + 1).tolist()) if len(settled) else ()
            yield Plateau(first, last, flat, stretches, mesh.span(first, last))


def _level_runs(sample: Sample) -> Iterator[tuple[int, int, bool]]:
    """Iterate over the first and last leaf of each stretch on which F stays, and whether B would have moved it."""
    push = sample.backward.abs().mean(1) * sample.mesh.width
    noise = [*sample.noise.tolist(), 0.0]
    low, high = [*sample.forward.amin(1).tolist(), -math.inf], [*sample.forward.amax(1).tolist(), math.inf]
    first, bottom, top = 0, low[0], high[0]
    for leaf in range(1, len(low)):
        new_bottom, new_top = min(bottom, low[leaf]), max(top, high[leaf])
        if new_top - new_bottom <= 2 * noise[leaf]:
            bottom, top = new_bottom, new_top
            continue
        if top - bottom <= 2 * noise[leaf - 1]:
            moved = float(push[first:leaf].sum())
            yield first, leaf - 1, moved > 1e3 * float(sample.noise[first:leaf].max())  # else rounding may hide it
        first, bottom, top = leaf, low[leaf], high[leaf]


def _settled(mesh: Mesh, first: int, last: int) -> Tensor:
    """Mark the leaves of a level stretch, except narrow parts beside breaks and at its ends, where F may move."""
    leaves = slice(first, last + 1)
    low, high, smooth = mesh.low[leaves], mesh.high[leaves], mesh.smooth[leaves]
    part = (~smooth).cumsum(0)
    width = torch.zeros(len(part), dtype=torch.float64).index_add(0, part, (high - low) * smooth)
    margin = torch.maximum(low.abs(), high.abs()).clamp(min=1) / 2000  # to rounding, x³ does not move for |x| < 1e-5
    settled = width[part] > margin
    if first > 0 and bool(mesh.smooth[first - 1]):
        settled &= high > low[0] + margin
    if last + 1 < len(mesh.x) and bool(mesh.smooth[last + 1]):
        settled &= low < high[-1] - margin
    return settled


def varying_on_plateaus(sample: Sample, found: list[Plateau]) -> Iterator[Finding]:
    """Find the plateaus of F on which B varies: P is flat there, so B, a function of P, must be constant."""
    for plateau in found:
        for leaves in plateau.stretches:
            B = sample.backward[leaves]
            low, high = float(B.min()), float(B.max())
            span = max(abs(low), abs(high)) * CONSTANT
            breaks = [b for b in sample.breaks if leaves[0] < b.first < b.last < leaves[-1]]
            values = [float(sample.backward[b.first, -1]) for b in breaks]  # B at a break may equal neither side's
            alone = [v for v in values if min(abs(v - low), abs(v - high)) > span and v != 0]
            if high - low <= span and not alone:
                continue
            interval = sample.mesh.span(int(leaves[0]), int(leaves[-1]))
            low, high = min([low, *alone]), max([high, *alone])
            level = float(sample.forward[leaves[0], 0])
            how = f"F stays at {level:.6g}, so P is flat there, but B is not constant: it goes {_apart(low, high)}"
            parts = torch.tensor_split(leaves, ((leaves.diff() > 1).nonzero().flatten() + 1).tolist())
            if all(float(sample.backward[part].max() - sample.backward[part].min()) <= span for part in parts):
                yield Finding(f"{how} in steps", interval, by_convention=True)
            elif glides(sample.F, *plateau.interval, sample.mesh.ends) or _rests(sample, plateau):
                yield _too_faint(low, high, interval)
            else:
                yield Finding(how, interval)


def faint(sample: Sample) -> Iterator[Finding]:
    """Find stretches, not `decided`, on which B varies but is so small that float64 would not show a move of F."""
    mesh, B = sample.mesh, sample.backward
    seen = mesh.smooth & (B.abs().amax(1) > RESOLVED * sample.size)
    for first, last, is_long in _level_runs(sample):
        varied = first + seen[first : last + 1].nonzero().flatten()
        if is_long or not len(varied):
            continue
        interval = mesh.span(int(varied[0]), int(varied[-1]))
        low, high = float(B[varied].min()), float(B[varied].max())
        wide = interval[1] - interval[0] > 1e-3 * max(1.0, abs(interval[0]))  # narrower is where F bends into a plateau
        if wide and high - low > CONSTANT * max(abs(low), abs(high)):
            yield _too_faint(low, high, interval)


def _apart(low: float, high: float) -> str:
    """Write both numbers with as many digits as tell them apart."""
    digits = next(d for d in range(4, 18) if f"{low:.{d}g}" != f"{high:.{d}g}")
    return f"from {low:.{digits}g} to {high:.{digits}g}"


def _too_faint(low: float, high: float, interval: tuple[float, float]) -> Finding:
    return Finding(
        f"F moves by less than float64 shows while B goes {_apart(low, high)}: a plateau of F would make "
        "the pair illegitimate, a slow rise would not",
        interval, decided=False,
    )  # fmt: skip


def _rests(sample: Sample, plateau: Plateau) -> bool:
    """Return whether F may rest at one point only, as x⁷ does: one width beyond an end it has hardly moved."""
    low, high = plateau.interval
    first, last = sample.mesh.ends
    width = high - low
    beyond = [(end, x) for end, x in ((low, low - width), (high, high + width)) if first < x < last]
    moved = [float(sample.F(torch.tensor(pair, dtype=torch.float64)).diff().abs()) for pair in beyond]
    return any(m <= 1e4 * float(sample.noise[plateau.first : plateau.last + 1].max()) for m in moved)


def falling(sample: Sample) -> Iterator[Finding]:
    """Find stretches on which F moves against the sign of B, so that P = ∫dF/B falls."""
    mesh = sample.mesh
    centre = mesh.x.shape[1] // 2
    steps = sample.forward.diff(dim=1)
    sign = sample.backward[:, centre].sign()[:, None]
    wrong = (steps * sign < -sample.noise[:, None]).any(1) & mesh.smooth & ~sample.is_unit
    for first, last in runs(wrong):
        direction = "rises" if float(steps[first].sum()) > 0 else "falls"
        B = float(sample.backward[(first + last) // 2, centre])
        reason = f"F {direction} where B has the other sign ({B:.3g}), so that P = ∫dF/B falls"
        yield Finding(reason, mesh.span(first, last))


def moving_without_push(sample: Sample) -> Iterator[Finding]:
    """Find stretches on which F moves although B is 0, or lost in rounding; then `decided` may be False."""
    mesh = sample.mesh
    tiny = sample.backward.abs().amax(1) <= LOST * sample.size
    still = (sample.backward == 0).any(1) | (sample.backward[:, 0] * sample.backward[:, -1] < 0)
    wrong = mesh.smooth & tiny & still & ~sample.is_still & ~sample.is_unit
    for first, last in runs(wrong):
        low, high = mesh.span(first, last)
        moved = float((sample.forward[last, -1] - sample.forward[first, 0]).abs())
        if bool((sample.backward[first : last + 1] != 0).any()) or glides(sample.B, low, high, mesh.ends):
            yield Finding(
                f"F moves by {moved:.3g} where B is lost in rounding: 0 would make the pair illegitimate, less than "
                f"{LOST * sample.size:.1g} would not",
                (low, high), decided=False,
            )  # fmt: skip
        else:
            yield Finding(f"F moves by {moved:.3g} where B is 0", (low, high))


def steep(sample: Sample) -> Iterator[Finding]:
    """Yield undecided findings where F moves and B is below STEEP of its size around 0: P = ∫dF/B is too large."""
    least = STEEP * sample.size
    small = (sample.backward.abs().amax(1) < least) & (sample.backward != 0).all(1)
    for first, last in runs(sample.mesh.smooth & small & ~sample.is_still & ~sample.is_unit):
        reason = f"P = ∫dF/B is too large to be computed: F moves where B is below {least:.1g}"
        yield Finding(reason, sample.mesh.span(first, last), decided=False)


class Jump(NamedTuple):
    """A jump of F by `rise` at `at`, with B just `before`, `here` at and just `after` it."""

    at: Break
    rise: float
    before: float
    here: float
    after: float


def jumps(sample: Sample) -> Iterator[Jump]:
    """Find the jumps of F among the breaks of `sample`, which may also be kinks or steep rises."""
    mesh, B = sample.mesh, sample.backward
    found = [at for at in sample.breaks if _is_jump(sample, at)]
    first, last = torch.tensor([at[:2] for at in found], dtype=torch.long).reshape(-1, 2).T
    below, above = sample.forward[first, 0], sample.forward[last, -1]

    def is_before(x: Tensor) -> Tensor:
        F = sample.F(x)
        return (F - above).abs() >= (F - below).abs()

    landings = bisected(mesh.low[first], mesh.high[last], is_before)[1]  # the first x at which F is nearer to `above`
    numbers = ((above - below).tolist(), B[first, 0].tolist(), sample.B(landings).tolist(), B[last, -1].tolist())
    for at, rise, before, landing, after in zip(found, *numbers, strict=True):
        yield Jump(at, rise, before, before if float(mesh.low[at.first]) == at.x else landing, after)


def _is_jump(sample: Sample, at: Break) -> bool:
    mesh, F = sample.mesh, sample.forward
    rise = float((F[at.last, -1] - F[at.first, 0]).abs())
    if rise <= max(1e-12 * float(F[at.first].abs().max()), float(sample.noise[at.first])):
        return False
    reach = 2.0**12 * float(mesh.width[at.first])
    around = torch.tensor([at.x - reach, at.x + reach], dtype=torch.float64).clamp(*mesh.ends)
    return rise >= 0.8 * float(sample.F(around).diff().abs())


def wrong_jumps(sample: Sample, found: list[Jump]) -> Iterator[Finding]:
    """Find those of the jumps of F, `found`, at which B is 0 or has the other sign: P must jump by ΔF/B(x₀) ≥ 0."""
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
    """Find the zeros of B at which ∫dF/B diverges, or may diverge, in which case `decided` is False."""
    low, high = sample.mesh.ends
    still = sample.is_still | (sample.backward == 0).all(1)
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
    """Return s if the integral over the shell from d/2 to d from the zero goes as d^s; None if rounding hides it."""
    others = [*sample.mesh.ends, *(other.x for other in sample.zeros), *(b.x for b in sample.breaks)]
    reach = min((side * (x - zero.x) for x in others if side * (x - zero.x) > 1e-9), default=0.0)
    for start in (2.0**-8, 1.0):
        distance = start * 2.0 ** -torch.arange(0, 42, dtype=torch.float64)
        distance = distance[distance <= reach]
        F, B = sample.F(zero.x + side * distance), sample.B(zero.x + side * 0.7 * distance)[:-1].abs()
        rise, eps = F.diff().abs(), torch.finfo(torch.float64).eps
        shows = (rise > 500 * eps * F.abs().max()) & (500 * eps * B.amax() < B) & (distance[1:] > 1e3 * zero.error)
        tail = (rise / B)[: int(shows.long().cumprod(0).sum())][-8:].log2()
        if len(tail) >= 4:
            return float((tail[0] - tail[-1]) / (len(tail) - 1))
    return None
