"""Functions of one variable as tables of cubics: made once, then as fast as a search and three multiplications."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_NARROW = 2.0**-26
"""Cubics narrower than this are made straight: their curvature is below rounding, which would blur their slope."""

_NARROWEST = 2.0**-22
"""No piece is halved further, which leaves the rounding of its slope below what float32 can see."""

_LARGEST = 3e38
"""What ±∞ is replaced by: a piece that rises then overflows again, and a flat one does not become NaN."""

_BETWEEN = torch.arange(1, 8, dtype=torch.float64) / 8


@dataclass(frozen=True, eq=False)
class Half:
    """Cubics of the distance from 0: piece i is Σ_k c[i, k]·(d - start[i])^k up to the next, the last for ever."""

    start: Tensor
    """(n,), ascending from 0."""
    c: Tensor
    """(n, 4)."""

    def __call__(self, distance: Tensor) -> Tensor:
        """The values at distances ≥ 0; NaN stays NaN."""
        start, c = self.start.to(distance), self.c.to(distance)
        piece = (torch.bucketize(distance.detach().contiguous(), start, right=True) - 1).clamp(min=0)
        d = distance - start[piece]
        c0, c1, c2, c3 = c[piece].unbind(-1)
        return c0 + d * (c1 + d * (c2 + d * c3))


@dataclass(frozen=True, eq=False)
class Interpolant:
    """A function made of cubics, on a tensor of any float dtype and device, differentiable by autograd.

    Either side of 0 is expanded away from 0, so that small values keep their relative precision. One side alone makes a
    function that is odd to the bit.
    """

    positive: Half
    negative: Half | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """The values, computed in float32 or wider, with the shape and dtype of `x`."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        is_left = wide < 0
        distance = torch.where(is_left, -wide, wide).clamp(max=_LARGEST)
        right = self.positive(distance)
        left = -right if self.negative is None else self.negative(distance)
        return torch.where(is_left, left, right).to(x.dtype)


Pieces = Callable[[Tensor, Tensor], Tensor]
"""Cubics (n, 4) between points a and b (n,), in powers of x - a, where b may lie on either side of a."""


def interpolant(right: Half, left: Half) -> Interpolant:
    """Both sides joined; one alone where the other is its mirror image."""
    at = torch.cat([right.start, (right.start[1:] + right.start[:-1]) / 2])
    mirrored = torch.equal(right.start, left.start) and torch.allclose(right(at), -left(at), rtol=1e-12, atol=1e-14)
    return Interpolant(right) if mirrored else Interpolant(right, left)


def fit(
    a: Tensor, b: Tensor, pieces: Pieces, exact: Callable[[Tensor], Tensor], tolerance: float
) -> tuple[Half, float]:
    """Pieces from a (n,) to b (n,), all on one side of 0, halved until they err by less than `tolerance`.

    Returns them, and the largest error seen at seven points of each. Errors are relative to max(1, |value|).
    """
    settled: list[tuple[Tensor, Tensor]] = []
    worst = 0.0
    while len(a):
        c = pieces(a, b)
        x = a[:, None] + (b - a)[:, None] * _BETWEEN
        d = x - a[:, None]
        values = c[:, :1] + d * (c[:, 1:2] + d * (c[:, 2:3] + d * c[:, 3:]))
        true = exact(x.reshape(-1)).reshape(x.shape)
        error = ((values - true).abs() / true.abs().clamp(min=1.0)).amax(1)
        good = (error <= tolerance) | ((b - a).abs() <= _NARROWEST)
        worst = max(worst, float(error[good].max())) if bool(good.any()) else worst
        settled.append((a[good], c[good]))
        middle = ((a + b) / 2)[~good]
        a, b = torch.cat([a[~good], middle]), torch.cat([middle, b[~good]])
    start, c = torch.cat([s[0] for s in settled]), torch.cat([s[1] for s in settled])
    order = start.abs().argsort()
    side = -1.0 if bool((start < 0).any()) else 1.0
    return Half(start[order].abs(), c[order] * torch.tensor([1.0, side, 1.0, side], dtype=c.dtype)), worst


def straight(values_a: Tensor, values_b: Tensor, width: Tensor) -> Tensor:
    """Straight pieces (n, 4) between values at a and b = a + width."""
    zero = torch.zeros_like(values_a)
    return torch.stack([values_a, (values_b - values_a) / width, zero, zero], 1)


def hermite(values_a: Tensor, values_b: Tensor, slopes_a: Tensor, slopes_b: Tensor, width: Tensor) -> Tensor:
    """Cubics (n, 4) with these values and slopes at a and b = a + width; straight where they are narrow."""
    rise = (values_b - values_a) / width
    second = (3 * rise - 2 * slopes_a - slopes_b) / width
    third = (slopes_a + slopes_b - 2 * rise) / width**2
    cubic = torch.stack([values_a, slopes_a, second, third], 1)
    return torch.where((width.abs() <= _NARROW)[:, None], straight(values_a, values_b, width), cubic)
