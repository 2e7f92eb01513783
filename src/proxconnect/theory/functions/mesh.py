"""Functions on adjacent intervals, the leaves, each smooth or so narrow that it locates a jump or a kink."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from proxconnect.theory.functions.blackbox import BlackBox, Function

ORDER = 8
NODES = ORDER + 1
"""The number of Chebyshev-Lobatto nodes of a leaf, with both ends."""

REACH = 1000.0
"""Pairs, P and T are looked at on [-REACH, REACH], in units of the latents' mean magnitude."""


class TooRoughError(ValueError):
    """The error for a function that jumps, bends or oscillates too often to be resolved or tabulated."""


def _chebyshev() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return nodes on [-1, 1], and matrices from values to coefficients, derivatives and integrals from -1."""
    k = torch.arange(NODES + 1, dtype=torch.float64)
    nodes = -torch.cos(math.pi * k[:-1] / ORDER)
    nodes[ORDER // 2] = 0.0
    powers = torch.cos(k * torch.acos(nodes)[:, None])  # T_k(node), column by column
    coefficients = torch.linalg.inv(powers[:, :-1])
    slopes, integrals = torch.zeros(2, NODES, NODES, dtype=torch.float64)
    slopes[:, 1], integrals[:, 0], integrals[:, 1] = 1.0, nodes + 1, nodes**2 / 2 - 0.5
    for j in range(2, NODES):
        slopes[:, j] = 2 * j * powers[:, j - 1] + (slopes[:, j - 2] * j / (j - 2) if j > 2 else 0.0)
        raw = (powers[:, j + 1] / (j + 1) - powers[:, j - 1] / (j - 1)) / 2
        integrals[:, j] = raw - raw[0]
    return nodes, coefficients, slopes @ coefficients, integrals @ coefficients


UNIT_NODES, TO_COEFFICIENTS, TO_SLOPES, TO_INTEGRALS = _chebyshev()
_WEIGHTS = torch.tensor([(0.5 if k in (0, ORDER) else 1.0) * (-1) ** k for k in range(NODES)], dtype=torch.float64)


class Mesh:
    """Adjacent intervals of x, called leaves, and the values of one or more functions at the nodes of each.

    The nodes `x`, ascending, and the `values` of each function are (leaves, NODES). `smooth`, (leaves,), is False for
    the narrow leaves that hold a jump or a kink.
    """

    def __init__(self, x: Tensor, values: tuple[Tensor, ...], smooth: Tensor) -> None:
        self.x, self.values, self.smooth = x, values, smooth
        self.low, self.high = x[:, 0], x[:, -1]
        self.width = self.high - self.low
        self.ends = (float(x[0, 0]), float(x[-1, -1]))

    def span(self, first: int, last: int) -> tuple[float, float]:
        """Return both ends of the stretch from leaf `first` to leaf `last`."""
        return float(self.low[first]), float(self.high[last])

    def away_from_zero(self, side: float) -> tuple[Tensor, Tensor]:
        """Return the near and far ends from 0, both (n,), of smooth leaves with x ≥ 0, or x ≤ 0 if `side` < 0."""
        inside = self.smooth & ((self.low >= 0) if side > 0 else (self.high <= 0))
        near, far = (self.low, self.high) if side > 0 else (self.high, self.low)
        return near[inside], far[inside]

    def noise(self) -> Tensor:
        """Estimate how far rounding may move the first function on each leaf, (leaves,).

        The rounding of x counts in proportion to the steepest slope, up to 1: it shows in a clip made of two relus.
        """
        values, eps = self.values[0], torch.finfo(torch.float64).eps
        slopes = torch.where(self.smooth, (values.amax(1) - values.amin(1)) / self.width, 0.0)
        of_x = 2 * slopes.amax().clamp(max=1) * self.x.abs().amax(1)
        ulps = torch.stack([8 * values.abs().amax(1), 2 * size_of(self.x, values).expand(len(values)), of_x])
        return torch.maximum(eps * ulps.amax(0), torch.where(self.smooth, 8 * last_coefficients(values), 0.0))

    def slopes(self, values: Tensor) -> Tensor:
        """Return the derivative at the nodes, (leaves, NODES), of the function with these `values` at the nodes."""
        return (values @ TO_SLOPES.T) * (2 / self.width)[:, None]

    def integrals(self, values: Tensor) -> Tensor:
        """Integrate the function with these `values` from the left end of each leaf to its nodes, (leaves, NODES)."""
        return (values @ TO_INTEGRALS.T) * (self.width / 2)[:, None]

    def interpolate(self, values: Tensor, x: Tensor) -> Tensor:
        """Return the function with `values` (leaves, NODES) at the nodes, at points `x` (n,); NaN outside the mesh."""
        inside = self.interpolate_on(values, self.leaf_of(x), x)
        return torch.where((x < self.low[0]) | (x > self.high[-1]), torch.nan, inside)

    def leaf_of(self, x: Tensor) -> Tensor:
        """Return the index of the leaf (interval) that holds or is nearest to each point of `x`, (n,)."""
        leaf: Tensor = torch.searchsorted(self.high.contiguous(), x)
        return leaf.clamp(max=len(self.high) - 1)

    def interpolate_on(self, values: Tensor, leaf: Tensor, x: Tensor) -> Tensor:
        """Return the function with `values` (leaves, NODES) at the nodes, at points `x` (n,).

        `leaf`, (n,), has the index of the leaf that holds each point. Between the nodes of a leaf that is not smooth,
        return the value at its right end.
        """
        distance = x[:, None] - self.x[leaf]
        exact = distance == 0
        terms = torch.where(exact.any(1, keepdim=True), exact.double(), _WEIGHTS / torch.where(exact, 1.0, distance))
        inside = (terms * values[leaf]).sum(1) / terms.sum(1)
        return torch.where(self.smooth[leaf] | exact.any(1), inside, values[leaf, -1])


def last_coefficients(values: Tensor) -> Tensor:
    """Return the larger magnitude of the last two Chebyshev coefficients, (leaves,), of `values` (leaves, NODES)."""
    return (values @ TO_COEFFICIENTS.T)[:, -2:].abs().amax(1)


def size_of(x: Tensor, values: Tensor) -> Tensor:
    """Return the largest |value|·min(1, 4/|x|)³ of a function with `values` at `x`, a 0-dim tensor."""
    return (values.abs() * (4 / x.abs().clamp(min=4)) ** 3).max()


def edges(low: float, high: float, points: Sequence[float] = ()) -> Tensor:
    """Return ends of intervals for a mesh, (n,), ascending: `low`, `high`, and those of 0, `points` and others between.

    The others are multiples of 1/256 up to |x| = 4, closer and closer around 0, and 1 % of |x| apart farther out.
    """
    halving = 2.0 ** -torch.arange(8, 31, dtype=torch.float64)
    even = torch.arange(1, 1025, dtype=torch.float64) / 256
    reach = max(abs(low), abs(high), 4.0)
    far = 4.0 * 1.01 ** torch.arange(1, 1 + math.ceil(math.log(reach / 4.0, 1.01)), dtype=torch.float64)
    half = torch.cat([halving, even, far])
    ends: Tensor = torch.cat([-half, half, torch.tensor([0.0, low, high, *points], dtype=torch.float64)]).unique()
    return ends[(ends >= low) & (ends <= high)]


def mesh(
    functions: Sequence[BlackBox], low: float, high: float, points: Sequence[float] = (), tolerance: float = 1e-12
) -> Mesh:
    """Divide [low, high] into intervals (leaves) on which all `functions` are smooth, or as narrow as float64 resolves.

    Smooth means last Chebyshev coefficients of at most `tolerance`, relative to the size. Others are halved to a width
    of about 2^-50·max(1, |x|), around a jump or a kink; TooRoughError if more than 300,000 intervals are needed. The
    `points` in (low, high) are ends of intervals, too.
    """
    ends = edges(low, high, points)
    pending = torch.stack([ends[:-1], ends[1:]], 1)
    sizes: list[Tensor] = []
    leaves: list[tuple[Tensor, Tensor, Tensor]] = []
    count = 0
    while len(pending):
        low_ends, high_ends = pending[:, :1], pending[:, 1:]
        x = (low_ends + high_ends) / 2 + (high_ends - low_ends) / 2 * UNIT_NODES
        x[:, 0], x[:, -1] = pending[:, 0], pending[:, 1]
        values = torch.stack([f(x.reshape(-1)).reshape(x.shape) for f in functions])
        sizes = sizes or [size_of(x, v) for v in values]
        farthest, width = pending.abs().amax(1), pending[:, 1] - pending[:, 0]
        rounding = torch.finfo(torch.float64).eps * farthest
        rough = torch.zeros(len(x), dtype=torch.bool)
        for v, scale in zip(values, sizes, strict=True):
            blur = rounding / width * (v.amax(1) - v.amin(1))  # by the rounding of x; on the narrowest it is a jump
            blur = torch.where(width > 2.0**12 * rounding, blur, 0.0)
            rough |= last_coefficients(v) > tolerance * torch.maximum(v.abs().amax(1), scale) + blur
        smallest = width <= 2.0**-50 * farthest.clamp(min=1)
        split = rough & ~smallest
        leaves.append((x[~split], values[:, ~split], ~rough[~split, None]))
        middle = pending[split].mean(1)
        pending = torch.cat([torch.stack([pending[split, 0], middle], 1), torch.stack([middle, pending[split, 1]], 1)])
        count += len(x)
        if count > 300_000 and len(pending):
            names = " or ".join(f.name for f in functions)
            raise TooRoughError(
                f"{names} has more jumps and kinks than can be told apart, the most between x = "
                f"{float(pending.min()):.4g} and {float(pending.max()):.4g} (does it wave for ever, or is it computed "
                "in float32, or by rounding?)"
            )
    x, values, smooth = (torch.cat(parts, -2) for parts in zip(*leaves, strict=True))
    order = x[:, 0].argsort()
    return Mesh(x[order], tuple(values[:, order]), smooth[order, 0])


def bisected(low: Tensor, high: Tensor, is_before: Function) -> tuple[Tensor, Tensor]:
    """Bisect each [low, high], (n,), to where `is_before` turns false; return the x just before and just after."""
    for _ in range(64):
        middle = (low + high) / 2
        before = is_before(middle)
        low, high = torch.where(before, middle, low), torch.where(before, high, middle)
    return low, high


def glides(
    function: Function, low: float, high: float, ends: tuple[float, float], shares: tuple[float, float] = (1e-12, 1e-6)
) -> bool:
    """Return True if `function` leaves its value on [low, high] exponentially slowly on a side, not at a kink or jump.

    The two distances beyond that side, up to `ends`, at which it has made the `shares` of its move are then similar.
    """
    # As 1 to 2 on an exponential tail, and as 1 to 10^(6/n) at a kink of order n.
    for edge, side in ((low, -1.0), (high, 1.0)):
        distance = torch.logspace(-15, 2, 4000, dtype=torch.float64) * max(1.0, abs(edge))
        x = (edge + side * distance).clamp(*ends)
        moved = (function(x) - function(torch.tensor([edge], dtype=torch.float64))).abs()
        near, far = (int((moved >= share * moved.max()).int().argmax()) for share in shares)
        if far - near > 2 and float(distance[near]) > 0.15 * float(distance[far]):
            return True
    return False
