"""Jumps of F, at each of which P jumps by ΔF/B(x₀), which must not be down."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from proxconnect.theory.findings import Finding
from proxconnect.theory.sampling import LOST, Break, Sample


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
        if abs(jump.here) <= LOST * sample.size:
            yield Finding(f"F jumps by {jump.rise:.6g} at x = {jump.at.x:.6g}, where B is 0", interval, True)
        elif jump.step < 0:
            yield Finding(
                f"F jumps by {jump.rise:.6g} at x = {jump.at.x:.6g}, where B = {jump.here:.6g} has the other sign, so "
                "that P jumps down",
                interval, True,
            )  # fmt: skip
