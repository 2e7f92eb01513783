"""Plateaus of F: P is flat there unless B is 0, so B must be constant."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from proxconnect.theory.functions.mesh import Mesh
from proxconnect.theory.verdicts.rules import Finding, glides
from proxconnect.theory.verdicts.sampling import Sample

RESOLVED = 1e-10
"""B up to this share of its size around 0, on a plateau of F, counts as rounding of 0."""

CONSTANT = 1e-10
"""B is constant if it varies by at most this share."""

SIGNIFICANT = 1e3
"""A plateau of F is long enough if a slope of B would have moved F by this many times its rounding."""

NARROW = 1 / 2000
"""A plateau is wider than this share of max(1, |x|): to rounding, x³ does not move for |x| < 1e-5."""


class Plateau(NamedTuple):
    """Leaves `first` to `last` on which F stays though B would move it. P is flat on `flat` leaves, else free."""

    first: int
    last: int
    flat: Tensor
    """(last - first + 1,) booleans."""
    stretches: tuple[Tensor, ...]
    """Flat leaves on which F surely stays, divided at free parts."""
    interval: tuple[float, float]


def plateaus(sample: Sample) -> Iterator[Plateau]:
    """Find the stretches on which F stays, to rounding, and B is not lost in rounding."""
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
            apart = mesh.low[settled[1:]] - mesh.high[settled[:-1]] > 1e-9  # wider than a break
            stretches = torch.tensor_split(settled, (apart.nonzero().flatten() + 1).tolist()) if len(settled) else ()
            yield Plateau(first, last, flat, stretches, interval)


def _level_runs(sample: Sample) -> Iterator[tuple[int, int]]:
    """Iterate over the first and last leaf of each stretch on which the range of F is within its rounding."""
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
    """Mark the leaves of a level stretch, except narrow parts beside breaks and at its ends, where F may move."""
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


def varying_on_plateaus(sample: Sample, found: list[Plateau]) -> Iterator[Finding]:
    """Find where F is flat and B varies: P is flat there, so B must be constant."""
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
            interval = (float(sample.mesh.low[leaves[0]]), float(sample.mesh.high[leaves[-1]]))
            low, high = min([low, *alone]), max([high, *alone])
            level = float(sample.forward[leaves[0], 0])
            how = f"F stays at {level:.6g}, so P is flat there, but B is not constant: it goes {_apart(low, high)}"
            if not _varies_between_breaks(sample, leaves, span):
                yield Finding(f"{how} in steps", interval, by_convention=True)
            elif glides(sample.F, *plateau.interval, sample.mesh.ends) or _rests(sample, plateau):
                yield _too_faint(low, high, interval)
            else:
                yield Finding(how, interval)


def faint(sample: Sample) -> Iterator[Finding]:
    """Find where B varies and F would not show if it moved: a B that is tiny beside F."""
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


def _varies_between_breaks(sample: Sample, leaves: Tensor, span: float) -> bool:
    """Return whether B varies on leaves without a break between them, not only across breaks."""
    parts = torch.tensor_split(leaves, ((leaves.diff() > 1).nonzero().flatten() + 1).tolist())
    return any(float(sample.backward[part].max() - sample.backward[part].min()) > span for part in parts)


def _rests(sample: Sample, plateau: Plateau) -> bool:
    """Return whether F may rest at one point only, as x⁷ does: one width beyond an end it has hardly moved."""
    low, high = plateau.interval
    first, last = sample.mesh.ends
    width = high - low
    beyond = [(end, x) for end, x in ((low, low - width), (high, high + width)) if first < x < last]
    moved = [float(sample.F(torch.tensor(pair, dtype=torch.float64)).diff().abs()) for pair in beyond]
    return any(m <= 1e4 * float(sample.noise[plateau.first : plateau.last + 1].max()) for m in moved)
