"""Rules that a legitimate pair keeps, looked for on the mesh where F moves without a jump.

F and B must be functions of P = ∫dF/B, and P must not fall. Each function here yields where that breaks, whether only a
convention says so, and whether float64 can tell; `plateaus`, `jumps` and `divergence` look elsewhere.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from proxconnect.theory.blackbox import BlackBox
from proxconnect.theory.sampling import LOST, Sample


@dataclass(frozen=True)
class Finding:
    """One place where a rule breaks."""

    reason: str
    interval: tuple[float, float]
    """Where, the ends equal for a point."""
    by_convention: bool = False
    """Whether only the convention is against the pair."""
    decided: bool = True
    """Whether float64 can tell; the verdict is None where nothing else is found."""


def falling(sample: Sample) -> Iterator[Finding]:
    """F moves against the sign of B: P = ∫dF/B falls."""
    mesh = sample.mesh
    steps = sample.forward.diff(dim=1)
    sign = sample.backward[:, mesh.x.shape[1] // 2].sign()[:, None]
    wrong = (steps * sign < -sample.noise[:, None]).any(1) & mesh.smooth & ~sample.is_unit
    for first, last in runs(wrong):
        interval = (float(mesh.low[first]), float(mesh.high[last]))
        direction = "rises" if float(steps[first].sum()) > 0 else "falls"
        B = float(sample.backward[(first + last) // 2, mesh.x.shape[1] // 2])
        yield Finding(f"F {direction} where B has the other sign ({B:.3g}), so that P = ∫dF/B falls", interval)


def moving_without_push(sample: Sample) -> Iterator[Finding]:
    """F moves where B is 0 throughout."""
    mesh = sample.mesh
    tiny = sample.backward.abs().amax(1) <= LOST * sample.size
    still = (sample.backward == 0).any(1) | (sample.backward[:, 0] * sample.backward[:, -1] < 0)
    wrong = mesh.smooth & tiny & still & (sample.travel > sample.noise) & ~sample.is_unit
    for first, last in runs(wrong):
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
                f"{LOST * sample.size:.1g} would not",
                (low, high), decided=False,
            )  # fmt: skip
        else:
            yield Finding(f"F moves by {moved:.3g} where B is 0", (low, high))


def runs(holds: Tensor) -> Iterator[tuple[int, int]]:
    """First and last index of each run of True."""
    edges = torch.cat([torch.zeros(1, dtype=torch.int8), holds.to(torch.int8), torch.zeros(1, dtype=torch.int8)]).diff()
    starts, ends = (edges == 1).nonzero().flatten(), (edges == -1).nonzero().flatten() - 1
    return iter(zip(starts.tolist(), ends.tolist(), strict=True))


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
