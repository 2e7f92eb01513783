"""A prox from its regulariser: P(x) = argmin_z ½(z - x)² + r(z), solved on a line and kept as a table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from proxconnect._support.arguments import number, require_callable, require_type
from proxconnect.pairs import Prox
from proxconnect.pairs.probing import ProbeError
from proxconnect.theory.functions.blackbox import BlackBox, Function, probed
from proxconnect.theory.functions.interpolant import Half, Interpolant, fit, interpolant, straight
from proxconnect.theory.functions.mesh import REACH, Mesh, edges, mesh

FARTHEST = 4 * REACH
"""P has a table on [-REACH, REACH]; its values are searched on [-FARTHEST, FARTHEST]."""

ARGMIN_ERROR = 3e-8
"""Error of an argmin: the square root of float64's, since the objective is flat there."""


@dataclass(frozen=True)
class ArgminProx(Prox):
    """The prox P(x) = argmin_z ½(z - x)² + r(z) of a given r, from a table of straight lines for |x| ≤ 1000.

    `error` estimates the largest error of P between its jumps and of their positions, relative to max(1, |P|). It is
    usually below 2e-6, and larger where P is very steep.
    """

    r: Function
    table: Interpolant = field(repr=False, compare=False)
    error: float = field(compare=False)

    def __call__(self, x: Tensor, mu: float | Tensor) -> Tensor:
        """Return P(x) from the table, with the shape and dtype of `x`; `mu` is ignored."""
        return self.table(x)

    def regularizer(self, z: Tensor, mu: float | Tensor) -> Tensor:
        """Return r(z) from the callable that `prox_of` was given; `mu` is ignored."""
        return self.r(z)


def prox_of(regularizer: Function, points: Sequence[float] = ()) -> ArgminProx:
    """Make the proximal quantiser of a regulariser r, which need not be convex and may be +∞.

    P(x) = argmin_z ½(z - x)² + r(z) becomes a table, whose error the attribute `error` of the prox estimates. Of two
    equally good z, P(x) is the greater.

    Args:
        regularizer: r, an elementwise callable of one float64 tensor that keeps shape and dtype; may be +∞.
        points: isolated z at which r is finite, other than multiples of 1/256 within ±4. The search could miss them.

    Raises:
        ProbeError: r raises, mixes entries, is random, changes shape or dtype, or is NaN or -∞.
        ValueError: r is +∞ at all searched z, falls so far that P leaves ±4000, or P is too rough for a table.
        TypeError: `regularizer` is no callable, or `points` no list of numbers.

    Example:
        >>> from proxconnect import theory
        >>> prox = theory.prox_of(lambda z: (1 - z.abs()).abs())  # least at ±1
        >>> prox(torch.tensor([-0.3, 0.5, 3.0]), 1.0)
        tensor([-1.,  1.,  2.])
    """
    require_callable(regularizer, "regularizer must be a callable of one tensor")
    require_type(points, Iterable, "points takes a list of numbers")
    solver = _Solver(regularizer, [number(point, "points") for point in points])
    leaves = mesh([BlackBox("the argmin", solver)], -REACH, REACH, tolerance=ARGMIN_ERROR)
    if float(leaves.values[0].abs().max()) >= FARTHEST:  # then the least point is the last one of the grid
        raise ValueError(
            f"the prox of x leaves ±{FARTHEST:g} within |x| ≤ {REACH:g}: regularizer falls as fast as -½z² far away, "
            "or nearly so; let it be +∞ beyond what is allowed"
        )
    right, left = (_side(leaves, side) for side in (1.0, -1.0))
    unseen_kink = 40 * ARGMIN_ERROR  # the error of P at a bend within a leaf that passes for smooth
    return ArgminProx(regularizer, interpolant(right[0], left[0]), max(right[1], left[1]) + unseen_kink)


class _Solver:
    """The argmin by the convex hull of Φ on a grid, and golden sections about its best vertices."""

    def __init__(self, regularizer: Function, points: Sequence[float]) -> None:

        def bounded(z: Tensor) -> Tensor:
            values = regularizer(z)
            return torch.atan(values) if isinstance(values, Tensor) else values  # atan(∞) is finite

        probed(bounded, "regularizer", -FARTHEST, FARTHEST)
        z = edges(-FARTHEST, FARTHEST, points)
        values = regularizer(z.clone())
        if bool(values.isnan().any()) or bool((values == -torch.inf).any()):
            bad = z[values.isnan() | (values == -torch.inf)]
            raise ProbeError(f"regularizer is NaN or -∞ from z = {float(bad.min()):.6g} to {float(bad.max()):.6g}")
        finite = values.isfinite().nonzero().flatten()
        if not len(finite):
            raise ValueError("regularizer is +∞ everywhere on the grid: name the points that it allows by points=")
        self.r, self.z = regularizer, z
        self.hull, self.slopes = _hull(z, z * z / 2 + values, finite)

    def __call__(self, x: Tensor) -> Tensor:
        """Return P(x) for points x (n,)."""
        vertex = torch.searchsorted(self.slopes, x, right=True)
        last = len(self.hull) - 1
        best, least = torch.full_like(x, torch.nan), torch.full_like(x, torch.inf)
        for shift in (-1, 0, 1):  # an inexact hull may be off by a vertex at a jump
            candidate, value = self._near(self.hull[(vertex + shift).clamp(0, last)], x)
            better = (value < least) | ((value == least) & (candidate > best))
            best, least = torch.where(better, candidate, best), torch.where(better, value, least)
        return best

    def _near(self, at: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the least point between the grid neighbours of grid points `at`, and the objective there."""

        def objective(z: Tensor) -> Tensor:
            return (z - x) ** 2 / 2 + self.r(z)

        vertex = self.z[at]
        a, b = self.z[(at - 1).clamp(min=0)], self.z[(at + 1).clamp(max=len(self.z) - 1)]
        golden = (5**0.5 - 1) / 2
        for _ in range(60):
            c, d = b - golden * (b - a), a + golden * (b - a)
            at_c, at_d = objective(c), objective(d)
            lost = at_c.isinf() & at_d.isinf()  # then go towards the vertex, where r is finite
            a_stays = torch.where(lost, vertex < c, at_c < at_d)
            b_stays = torch.where(lost, vertex > d, at_c >= at_d)
            a, b = torch.where(a_stays, a, c), torch.where(b_stays, b, d)
        candidates = torch.stack([vertex, (a + b) / 2, a, b])
        values = torch.stack([objective(z) for z in candidates])
        least = values.argmin(0, keepdim=True)
        return candidates.gather(0, least)[0], values.gather(0, least)[0]


def _hull(z: Tensor, phi: Tensor, finite: Tensor) -> tuple[Tensor, Tensor]:
    """Return the vertices of the lower convex hull of Φ over its finite points, as indices, and slopes between them."""
    x, y = z.tolist(), phi.tolist()
    stack: list[int] = []
    for i in finite.tolist():
        while len(stack) > 1:
            a, b = stack[-2], stack[-1]
            if (y[b] - y[a]) * (x[i] - x[b]) < (y[i] - y[b]) * (x[b] - x[a]):
                break
            stack.pop()
        stack.append(i)
    hull = torch.tensor(stack)
    return hull, phi[hull].diff() / z[hull].diff()


def _side(leaves: Mesh, side: float) -> tuple[Half, float]:
    """Return the table of one side of 0, and its error."""
    P = partial(leaves.interpolate, leaves.values[0])
    near, far = leaves.away_from_zero(side)
    half, error = fit(near, far, lambda a, b: straight(P(a), P(b), b - a), P, tolerance=2e-7)
    # Remove the falls that rounding makes.
    start = side * half.c[:, 0]
    width = torch.cat([half.start.diff(), half.start.new_ones(1)])
    end = start + side * half.c[:, 1] * width
    start = start.cummax(0).values
    ceiling = torch.cat([start[1:], start.new_full((1,), torch.inf)])
    end = torch.minimum(torch.maximum(end, start), ceiling)
    slope = (end - start) / width
    return Half(half.start, side * torch.stack([start, slope, 0 * slope, 0 * slope], 1)), error
