"""Functions of one variable as tables of cubics: made once, then as fast as a few lookups and three multiplications."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from proxconnect.pairs.part import widened

FINE = 8
"""2^8 bins to an octave of distances."""

OCTAVES = (-24, 20)
"""Between these powers of 2 there are bins; what is nearer to 0 is in the first, what is farther in the last."""

_NARROW = 2.0**-26
"""Cubics narrower than this are made straight: their curvature is below rounding, which would blur their slope."""

_NARROWEST = 2.0**-22
"""No piece is halved further, which leaves the rounding of its slope below what float32 can see."""

_LARGEST = 3e38
"""What ±∞ is replaced by: a piece that rises then overflows again, and a flat one does not become NaN."""

_BETWEEN = torch.arange(1, 8, dtype=torch.float64) / 8


@dataclass(frozen=True, eq=False)
class Half:
    """Cubics of the distance from 0: piece i is Σ_k c[i, k]·(d - start[i])^k up to the next, the last for ever.

    The leading bits of a distance name its bin, and the bin the few pieces that it may be in.
    """

    start: Tensor
    """(n,), ascending from 0."""
    c: Tensor
    """(n, 4)."""
    first: Tensor = field(init=False)
    """The piece at the near end of each bin, int32."""
    halvings: int = field(init=False)
    """How often the pieces of a bin must be halved to find one."""

    def __post_init__(self) -> None:
        near = _near_ends().to(self.start.device)
        first = (torch.bucketize(near, self.start, right=True, out_int32=True) - 1).clamp(min=0)
        most = torch.cat([first, first.new_tensor([len(self.start) - 1])]).diff().max()
        object.__setattr__(self, "first", first)
        object.__setattr__(self, "halvings", int(most).bit_length())

    def __call__(self, distance: Tensor) -> Tensor:
        """The values at float32 or float64 distances ≥ 0; NaN stays NaN."""
        d = distance.reshape(-1)
        start = self.start.to(d)
        piece = self._piece(d.detach(), start)
        c0, c1, c2, c3 = self.c.to(d).index_select(0, piece).unbind(1)
        d = d - start.index_select(0, piece)
        return (c0 + d * (c1 + d * (c2 + d * c3))).reshape(distance.shape)

    def _piece(self, d: Tensor, start: Tensor) -> Tensor:
        first, last = self.first.to(d.device), len(start) - 1
        piece = first.index_select(0, _bin(d).clamp(0, len(first) - 1))
        for k in reversed(range(self.halvings)):
            farther = (piece + 2**k).clamp(max=last)
            piece = torch.where(d >= start.index_select(0, farther), farther, piece)
        return piece


def _near_ends() -> Tensor:
    """The near end of each bin, the first of which begins at 0 and the last of which has no end."""
    octaves = torch.arange(*OCTAVES, dtype=torch.float64).exp2()[:, None]
    ends: Tensor = (octaves * (1 + torch.arange(2**FINE, dtype=torch.float64) / 2**FINE)).flatten()
    ends[0] = 0.0
    return ends


def _bin(d: Tensor) -> Tensor:
    """The bin of each distance (n,): exponent and leading bits, which rise with it; below 0 nearer than the first."""
    integer, mantissa, bias = (torch.int32, 23, 127) if d.dtype == torch.float32 else (torch.int64, 52, 1023)
    return ((d.view(integer) >> (mantissa - FINE)) - ((bias + OCTAVES[0]) << FINE)).to(torch.int32)


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
        wide = widened(x)
        side = 1 - 2 * (wide < 0).to(wide.dtype)
        distance = (side * wide).clamp(max=_LARGEST)
        right = self.positive(distance)
        if self.negative is None:
            return (side * right).to(x.dtype)
        return torch.where(wide < 0, self.negative(distance), right).to(x.dtype)


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
