"""Functions of one real variable as leaves on which they are smooth, found by bisection.

A leaf that is not yet smooth is halved, so that whatever lies between grid points is closed in on: a jump or a kink
ends in a leaf as wide as a few float64 neighbours, its place known to about 1e-15·max(1, |x|).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from proxconnect.theory.blackbox import BlackBox

ORDER = 8
NODES = ORDER + 1
"""Chebyshev-Lobatto nodes of a leaf, both ends among them."""

SMOOTH = 1e-12
"""The last coefficients of a smooth leaf, relative to the size of the function."""

FLOOR = 2.0**-50
"""The width of the smallest leaf, relative to max(1, |x|)."""

REACH = 1000.0
"""Pairs, and their P and T, are looked at on [-REACH, REACH], in units of the latents' mean magnitude."""

MOST_LEAVES = 300_000
"""A function that takes more of them is too rough."""


class TooRoughError(ValueError):
    """A function has too many jumps or kinks to be resolved."""


def _chebyshev() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Nodes on [-1, 1], and the matrices from values to coefficients, derivatives and integrals from -1."""
    k = torch.arange(NODES, dtype=torch.float64)
    nodes = -torch.cos(math.pi * k / ORDER)
    nodes[ORDER // 2] = 0.0
    powers = torch.stack([torch.cos(j * torch.acos(nodes.clamp(-1, 1))) for j in range(NODES + 1)], 1)  # T_j(node)
    coefficients = torch.linalg.inv(powers[:, :NODES])
    slopes = torch.zeros(NODES, NODES, dtype=torch.float64)  # T_j' at the nodes
    integrals = torch.zeros(NODES, NODES, dtype=torch.float64)  # of T_j from -1 to the nodes
    for j in range(NODES):
        second = [torch.ones_like(nodes), 2 * nodes]
        while len(second) < j:
            second.append(2 * nodes * second[-1] - second[-2])
        slopes[:, j] = j * second[j - 1] if j else 0.0
        if j == 0:
            raw, start = nodes, -1.0
        elif j == 1:
            raw, start = nodes**2 / 2, 0.5
        else:
            raw = (powers[:, j + 1] / (j + 1) - powers[:, j - 1] / (j - 1)) / 2
            start = ((-1) ** (j + 1) / (j + 1) - (-1) ** (j - 1) / (j - 1)) / 2
        integrals[:, j] = raw - start
    return nodes, coefficients, slopes @ coefficients, integrals @ coefficients


UNIT_NODES, TO_COEFFICIENTS, TO_SLOPES, TO_INTEGRALS = _chebyshev()
_WEIGHTS = torch.tensor([(0.5 if k in (0, ORDER) else 1.0) * (-1) ** k for k in range(NODES)], dtype=torch.float64)


@dataclass(frozen=True)
class Mesh:
    """Leaves [x[i, 0], x[i, -1]] in order, with no hole, and the values of K functions at their nodes."""

    x: Tensor
    """(leaves, NODES), ascending."""
    values: tuple[Tensor, ...]
    """K tensors (leaves, NODES)."""
    smooth: Tensor
    """(leaves,), False for the smallest leaves, which hold a jump or a kink."""

    @property
    def low(self) -> Tensor:
        """The left ends, (leaves,)."""
        return self.x[:, 0]

    @property
    def high(self) -> Tensor:
        """The right ends, (leaves,)."""
        return self.x[:, -1]

    @property
    def width(self) -> Tensor:
        """(leaves,)."""
        return self.high - self.low

    def away_from_zero(self, side: float) -> tuple[Tensor, Tensor]:
        """The near and the far ends of the smooth leaves on one side of 0, two (n,)."""
        inside = self.smooth & ((self.low >= 0) if side > 0 else (self.high <= 0))
        near, far = (self.low, self.high) if side > 0 else (self.high, self.low)
        return near[inside], far[inside]

    def size(self, k: int) -> Tensor:
        """The largest magnitude of function k, as `size` has it."""
        return size(self.x, self.values[k])

    def noise(self, k: int) -> Tensor:
        """How far rounding blurs function k on each leaf, (leaves,): as its last coefficients show, or a few ulp.

        Those of x count too where the function is as steep as that: a clip made of two relus cancels to them.
        """
        values, eps = self.values[k], torch.finfo(torch.float64).eps
        last = (values @ TO_COEFFICIENTS.T)[:, -2:].abs().amax(1)
        slopes = torch.where(self.smooth, (values.amax(1) - values.amin(1)) / self.width, 0.0)
        of_x = 2 * slopes.amax().clamp(max=1) * self.x.abs().amax(1)
        ulps = torch.stack([8 * values.abs().amax(1), 2 * self.size(k).expand(len(values)), of_x])
        return torch.maximum(eps * ulps.amax(0), torch.where(self.smooth, 8 * last, 0.0))

    def slopes(self, values: Tensor) -> Tensor:
        """The derivative at the nodes of what has these values there."""
        return (values @ TO_SLOPES.T) * (2 / self.width)[:, None]

    def integrals(self, values: Tensor) -> Tensor:
        """The integral from the left end of its leaf to each node of what has these values at the nodes."""
        return (values @ TO_INTEGRALS.T) * (self.width / 2)[:, None]

    def interpolate(self, values: Tensor, x: Tensor) -> Tensor:
        """What has these values at the nodes, at points `x` (n,); NaN outside the mesh."""
        inside = self.interpolate_on(values, self.leaf_of(x), x)
        return torch.where((x < self.low[0]) | (x > self.high[-1]), torch.nan, inside)

    def leaf_of(self, x: Tensor) -> Tensor:
        """The first leaf that ends at or beyond each point (n,)."""
        leaf: Tensor = torch.searchsorted(self.high.contiguous(), x)
        return leaf.clamp(max=len(self.high) - 1)

    def interpolate_on(self, values: Tensor, leaf: Tensor, x: Tensor) -> Tensor:
        """What has these values at the nodes, at points `x` (n,) of leaves (n,); within a break its right value."""
        at_nodes = values[leaf]
        distance = x[:, None] - self.x[leaf]
        exact = distance == 0
        terms = torch.where(exact.any(1, keepdim=True), exact.double(), _WEIGHTS / torch.where(exact, 1.0, distance))
        inside = (terms * at_nodes).sum(1) / terms.sum(1)
        return torch.where(self.smooth[leaf] | exact.any(1), inside, at_nodes[:, -1])


def size(x: Tensor, values: Tensor) -> Tensor:
    """The largest magnitude, what lies beyond |x| = 4 counting less by (4/|x|)³, lest growth hide what is around 0."""
    return (values.abs() * (4 / x.abs().clamp(min=4)) ** 3).max()


def edges(low: float, high: float, points: Sequence[float] = ()) -> Tensor:
    """Where leaves begin and end at first: 1/256 apart around 0, halving towards it, 1 % of |x| apart far from it."""
    halving = 2.0 ** -torch.arange(8, 31, dtype=torch.float64)
    even = torch.arange(1, 1025, dtype=torch.float64) / 256
    reach = max(abs(low), abs(high), 4.0)
    far = 4.0 * 1.01 ** torch.arange(1, 1 + math.ceil(math.log(reach / 4.0, 1.01)), dtype=torch.float64)
    half = torch.cat([halving, even, far])
    given = torch.tensor([low, high, *points], dtype=torch.float64)
    every = torch.cat([-half, torch.zeros(1, dtype=torch.float64), half, given])
    ends: Tensor = torch.unique(every[(every >= low) & (every <= high)])
    return ends


def mesh(
    functions: Sequence[BlackBox], low: float, high: float, points: Sequence[float] = (), tolerance: float = SMOOTH
) -> Mesh:
    """Leaves on which all `functions` are smooth, over [low, high], with `points` among their ends.

    TooRoughError where that takes too many.
    """
    ends = edges(low, high, points)
    pending = torch.stack([ends[:-1], ends[1:]], 1)
    sizes: list[Tensor] | None = None
    leaves: list[tuple[Tensor, Tensor, Tensor]] = []
    count = 0
    while len(pending):
        x = _nodes(pending)
        values = torch.stack([f(x.reshape(-1)).reshape(x.shape) for f in functions])
        if sizes is None:
            sizes = [size(x, v) for v in values]
        rough = torch.zeros(len(x), dtype=torch.bool)
        for v, scale in zip(values, sizes, strict=True):
            last = (v @ TO_COEFFICIENTS.T)[:, -2:].abs().amax(1)
            rough |= last > tolerance * torch.maximum(v.abs().amax(1), scale) + _blur(x, v)
        smallest = pending[:, 1] - pending[:, 0] <= FLOOR * pending.abs().amax(1).clamp(min=1)
        split = rough & ~smallest
        leaves.append((x[~split], values[:, ~split], ~rough[~split]))
        middle = pending[split].mean(1)
        pending = torch.cat([torch.stack([pending[split, 0], middle], 1), torch.stack([middle, pending[split, 1]], 1)])
        count += len(x)
        if count > MOST_LEAVES and len(pending):
            raise TooRoughError(_where_rough(functions, pending))
    x = torch.cat([leaf[0] for leaf in leaves])
    order = x[:, 0].argsort()
    stacked = torch.cat([leaf[1] for leaf in leaves], 1)[:, order]
    return Mesh(x[order], tuple(stacked), torch.cat([leaf[2] for leaf in leaves])[order])


def _blur(x: Tensor, values: Tensor) -> Tensor:
    """What the rounding of x alone does to the values of steep functions; 0 on leaves so narrow that it is a jump."""
    rounding = torch.finfo(torch.float64).eps * x.abs().amax(1)
    width = x[:, -1] - x[:, 0]
    blur = rounding / width * (values.amax(1) - values.amin(1))
    return torch.where(width > 2.0**12 * rounding, blur, 0.0)


def _nodes(ends: Tensor) -> Tensor:
    low, high = ends[:, :1], ends[:, 1:]
    x = (low + high) / 2 + (high - low) / 2 * UNIT_NODES
    x[:, 0], x[:, -1] = ends[:, 0], ends[:, 1]
    return x


def _where_rough(functions: Sequence[BlackBox], pending: Tensor) -> str:
    names = " or ".join(f.name for f in functions)
    return (
        f"{names} has more jumps and kinks than can be told apart, the most between x = {float(pending.min()):.4g} and "
        f"{float(pending.max()):.4g} (does it wave for ever, or is it computed in float32, or by rounding?)"
    )
