"""From F and B to P, T and r: P = ∫dF/B, r = ∫(x - P)dP, T(P(x)) = F(x)."""

from collections.abc import Iterable

import torch
from torch import Tensor

from proxconnect.theory.curves import ProxCurve, TransformCurve
from proxconnect.theory.jumps import Jump
from proxconnect.theory.mesh import UNIT_NODES, Mesh
from proxconnect.theory.plateaus import Plateau
from proxconnect.theory.sampling import Sample

_RIGHT = (UNIT_NODES == 1).double()
"""What jumps within a leaf has its right value at the last node alone."""


def reconstruct(
    sample: Sample, plateaus: Iterable[Plateau], jumps: Iterable[Jump], anchor: float
) -> tuple[ProxCurve, TransformCurve]:
    """P and T of a pair that keeps the rules; `anchor` is the middle of P at 0, or P at the left end without 0."""
    mesh = sample.mesh
    flat, level = torch.zeros(2, len(mesh.x), dtype=torch.bool)
    for plateau in plateaus:
        flat[plateau.first : plateau.last + 1] = plateau.flat
        level[plateau.first : plateau.last + 1] = True
    free = (sample.is_unit | level) & mesh.smooth & ~flat
    slopes = sample.backward[:, -1].clone()
    for jump in jumps:
        slopes[jump.at.first : jump.at.last + 1] = jump.here
    moved = torch.where(free[:, None], mesh.x - mesh.x[:, :1], _quotient_integral(sample))
    moved = torch.where(flat[:, None], 0.0, moved)
    moved = torch.where(mesh.smooth[:, None], moved, _step(sample.rise[:, -1], slopes)[:, None] * _RIGHT)
    p = _chained(moved)
    p = p.flatten().cummax(0).values.reshape(p.shape)
    curve = prox_curve(mesh, p + (anchor - middle_at_zero(mesh, p)), free)
    return curve, TransformCurve(sample, curve, slopes)


def prox_curve(mesh: Mesh, p: Tensor, free: Tensor) -> ProxCurve:
    """The curve of a P that is nondecreasing with these values at the nodes."""
    x, start = mesh.x, p[:, :1]
    slope = torch.where(free[:, None], 1.0, mesh.slopes(p))
    smooth = mesh.integrals((x - p) * slope)
    across = (p - start) * (mesh.high[:, None] - (p + start) / 2)
    r = _chained(torch.where(mesh.smooth[:, None], smooth, across))
    ends = tuple(bool(p[leaf, 0] == p[leaf, -1]) for leaf in (0, -1))
    return ProxCurve(mesh, p, r - _value_at_zero(mesh, r), free, (ends[0], ends[1]))


def middle_at_zero(mesh: Mesh, p: Tensor) -> Tensor:
    """The middle of P at 0, between its two sides where it jumps there; P at the left end of a mesh without 0."""
    ends_there, starts_there = mesh.high == 0, mesh.low == 0
    if not (bool(ends_there.any()) and bool(starts_there.any())):
        return p[0, 0]
    before, after = int(ends_there.nonzero()[0]), int(starts_there.nonzero()[0])
    left = p[before, -1] if mesh.smooth[before] else p[before, 0]
    right = p[after, 0] if mesh.smooth[after] else p[after, -1]
    return (left + right) / 2


def _value_at_zero(mesh: Mesh, r: Tensor) -> Tensor:
    at = (mesh.high == 0).nonzero()
    return r[int(at[0]), -1] if len(at) else r[0, 0]


def _chained(moved: Tensor) -> Tensor:
    """Values at the nodes from what is gained on each leaf, (leaves, NODES)."""
    ends = moved[:, -1].cumsum(0)
    return moved + torch.cat([torch.zeros(1, dtype=ends.dtype), ends[:-1]])[:, None]


def _step(rise: Tensor, slopes: Tensor) -> Tensor:
    """ΔF/B(x₀) where F jumps with the sign of B, else 0."""
    return torch.where(rise * slopes > 0, rise / torch.where(slopes == 0, 1.0, slopes), 0.0)


def _quotient_integral(sample: Sample) -> Tensor:
    """∫dF/B from the left end of a leaf to its nodes; by the trapezoidal rule in F where B is nearly 0."""
    B, mesh = sample.backward, sample.mesh
    clear = B.abs().amin(1) > 0.05 * B.abs().amax(1)
    smooth = mesh.integrals(mesh.slopes(sample.forward) / torch.where(clear[:, None], B, 1.0))
    mean = (B[:, 1:] + B[:, :-1]) / 2
    steps = _step(sample.forward.diff(dim=1), mean).cumsum(1)
    rough = torch.cat([torch.zeros(len(B), 1, dtype=B.dtype), steps], 1)
    return torch.where(clear[:, None], smooth, rough)
