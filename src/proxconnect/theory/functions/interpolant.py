"""Functions of one variable as tables of cubics: made once, then as fast as a few lookups and three products."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from proxconnect.pairs.part import widened
from proxconnect.theory.functions.blackbox import Function
from proxconnect.theory.functions.mesh import TooRoughError

FINE = 8
"""The distances between two powers of 2 are divided into 2^FINE bins."""

OCTAVES = (-24, 20)
"""Powers of 2 between which there are bins. Smaller distances are in the first bin, larger ones in the last."""


MOST = 200_000
"""The most pieces of a table on one side of 0, which take 8 MB."""


class Half:
    """A function of the distance d ≥ 0 from 0 as a table of cubic polynomials.

    Piece i is Σ_k c[i, k]·(d - start[i])^k up to the next start; the last piece has no end. `start` is (n,), ascending
    from 0, and `c` is (n, 4). The leading bits of a distance name its bin, which names the few pieces that may hold it.
    """

    def __init__(self, start: Tensor, c: Tensor) -> None:
        self.start, self.c = start, c
        octaves = torch.arange(*OCTAVES, dtype=torch.float64).exp2()[:, None]
        near = (octaves * (1 + torch.arange(2**FINE, dtype=torch.float64) / 2**FINE)).flatten()
        near[0] = 0.0  # the first bin begins at 0, and the last one has no end
        self.first = (torch.bucketize(near.to(start.device), start, right=True, out_int32=True) - 1).clamp(min=0)
        """The piece at the near end of each bin, int32."""
        most = torch.cat([self.first, self.first.new_tensor([len(start) - 1])]).diff().max()
        self.halvings = int(most).bit_length()
        """How often to halve the pieces of a bin until one is left."""

    def __call__(self, distance: Tensor) -> Tensor:
        """Return the values at float32 or float64 distances ≥ 0, with their shape and dtype; NaN stays NaN."""
        d = distance.reshape(-1)
        start, first, known = self.start.to(d), self.first.to(d.device), d.detach()
        integer, mantissa, bias = (torch.int32, 23, 127) if d.dtype == torch.float32 else (torch.int64, 52, 1023)
        number = (known.view(integer) >> (mantissa - FINE)) - ((bias + OCTAVES[0]) << FINE)  # of the bin
        piece = first.index_select(0, number.to(torch.int32).clamp(0, len(first) - 1))
        for k in reversed(range(self.halvings)):
            farther = (piece + 2**k).clamp(max=len(start) - 1)
            piece = torch.where(known >= start.index_select(0, farther), farther, piece)
        c = self.c.to(d).index_select(0, piece)
        return _horner(c, d - start.index_select(0, piece)).reshape(distance.shape)


def _horner(c: Tensor, d: Tensor) -> Tensor:
    """Return Σ_k c[i, k]·d[i]^k."""
    c0, c1, c2, c3 = c.unbind(1)
    return c0 + d * (c1 + d * (c2 + d * c3))


@dataclass(frozen=True, eq=False)
class Interpolant:
    """A function from tables of cubics in |x|, for x ≥ 0 and for x < 0; without a `negative` table it is odd."""

    positive: Half
    negative: Half | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Return the values at `x`, with its shape, float dtype and device, computed in float32 or wider.

        If |x| exceeds 3e38, also at ±∞, the value is that at ±3e38.
        """
        wide = widened(x)
        side = 1 - 2 * (wide < 0).to(wide.dtype)
        distance = (side * wide).clamp(max=3e38)  # else a flat piece makes NaN of ∞
        right = self.positive(distance)
        if self.negative is None:
            return (side * right).to(x.dtype)
        return torch.where(wide < 0, self.negative(distance), right).to(x.dtype)


def interpolant(right: Half, left: Half) -> Interpolant:
    """Join the tables for x ≥ 0 and x < 0, or keep only `right` if `left` mirrors it to a relative 1e-12."""
    at = torch.cat([right.start, (right.start[1:] + right.start[:-1]) / 2])
    mirrored = torch.equal(right.start, left.start) and torch.allclose(right(at), -left(at), rtol=1e-12, atol=1e-14)
    return Interpolant(right) if mirrored else Interpolant(right, left)


def fit(
    a: Tensor, b: Tensor, pieces: Callable[[Tensor, Tensor], Tensor], exact: Function, tolerance: float
) -> tuple[Half, float]:
    """Tabulate the function `exact` on one side of 0; return the table and the largest error seen in it.

    Pieces from `a` to `b`, (n,), of which `a` is nearer to 0, are halved until they err by at most `tolerance` at seven
    points or are at most 2^-22 wide. `pieces(a, b)` returns cubics (n, 4) in powers of x - a. Errors are relative to
    max(1, |value|). TooRoughError if that takes more than `MOST` pieces.
    """
    settled, worst, count = [], 0.0, 0
    between = torch.arange(1, 8, dtype=torch.float64) / 8
    while len(a):
        c = pieces(a, b)
        x = a[:, None] + (b - a)[:, None] * between
        values = _horner(c[:, :, None], x - a[:, None])
        true = torch.cat([exact(some) for some in x.reshape(-1).split(2**17)]).reshape(x.shape)  # in little memory
        error = ((values - true).abs() / true.abs().clamp(min=1.0)).amax(1)
        good = (error <= tolerance) | ((b - a).abs() <= 2.0**-22)  # the rounding of its slope is below float32's
        worst = max([worst, *error[good].tolist()])
        settled.append((a[good], c[good]))
        count += int(good.sum())
        if count + 2 * int((~good).sum()) > MOST:
            raise TooRoughError(
                f"its integral takes more than {MOST:,} cubics between 0 and x = {float(b.abs().max()):.4g}"
            )
        middle = ((a + b) / 2)[~good]
        a, b = torch.cat([a[~good], middle]), torch.cat([middle, b[~good]])
    start, c = map(torch.cat, zip(*settled, strict=True))
    order = start.abs().argsort()
    side = -1.0 if bool((start < 0).any()) else 1.0
    return Half(start[order].abs(), c[order] * torch.tensor([1.0, side, 1.0, side], dtype=c.dtype)), worst


def straight(values_a: Tensor, values_b: Tensor, width: Tensor) -> Tensor:
    """Return straight lines with these values at a and b = a + width, as coefficients of powers of x - a, (n, 4)."""
    zero = torch.zeros_like(values_a)
    return torch.stack([values_a, (values_b - values_a) / width, zero, zero], 1)


def hermite(values_a: Tensor, values_b: Tensor, slopes_a: Tensor, slopes_b: Tensor, width: Tensor) -> Tensor:
    """Return cubics with these values and slopes at a and b = a + width, as `straight` does; narrow ones are lines."""
    rise = (values_b - values_a) / width
    second = (3 * rise - 2 * slopes_a - slopes_b) / width
    third = (slopes_a + slopes_b - 2 * rise) / width**2
    cubic = torch.stack([values_a, slopes_a, second, third], 1)
    is_narrow = width.abs() <= 2.0**-26  # their curvature is below rounding, which would blur their slope
    return torch.where(is_narrow[:, None], straight(values_a, values_b, width), cubic)
