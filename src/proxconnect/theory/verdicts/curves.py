"""P, T and r as functions on a mesh, made from F and B: P = ∫dF/B, r = ∫(x - P)dP, T(P(x)) = F(x)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from proxconnect.theory.functions.mesh import UNIT_NODES, Mesh, bisected
from proxconnect.theory.verdicts.rules import Jump, Plateau
from proxconnect.theory.verdicts.sampling import Sample

Curve = TypeVar("Curve")


def _elementwise(method: Callable[[Curve, Tensor], Tensor]) -> Callable[[Curve, Tensor], Tensor]:
    """Let a method of float64 tensors (n,) without NaN take any float tensor, without gradient; NaN stays NaN."""

    @wraps(method)
    def evaluated(curve: Curve, x: Tensor) -> Tensor:
        flat = x.detach().double().cpu().reshape(-1)
        known = ~flat.isnan()
        value = torch.full_like(flat, torch.nan)
        value[known] = method(curve, flat[known])
        return value.reshape(x.shape).to(x)

    return evaluated


class Preimage(NamedTuple):
    """The points x at which a nondecreasing P reaches values `z`, which are moved into its range; all (n,).

    P reaches z at `first`, in leaf number `leaf` of the mesh, and `x` is in the middle of the x with P(x) = z. `in_gap`
    is True for values that P jumps over. `outside` is -1 for values below the range of P, 1 for those above it, else 0.
    """

    z: Tensor
    leaf: Tensor
    first: Tensor
    x: Tensor
    in_gap: Tensor
    outside: Tensor


class ProxCurve:
    """A nondecreasing P and the regularizer r of which it is the prox, as functions of float tensors of any shape.

    `p` holds P at the nodes of the mesh, (leaves, NODES). `free`, (leaves,), is True for leaves on which P' is 1.
    """

    def __init__(self, mesh: Mesh, p: Tensor, free: Tensor | None = None) -> None:
        self.mesh, self.p = mesh, p
        self.ends = (bool(p[0, 0] == p[0, -1]), bool(p[-1, 0] == p[-1, -1]))
        """True for the left and the right end of the mesh if P is flat there, so that its range ends."""
        slope = mesh.slopes(p) if free is None else torch.where(free[:, None], 1.0, mesh.slopes(p))
        start = p[:, :1]
        across = (p - start) * (mesh.high[:, None] - (p + start) / 2)
        r = _chained(mesh, torch.where(mesh.smooth[:, None], mesh.integrals((mesh.x - p) * slope), across))
        at_zero = (mesh.high == 0).nonzero()
        self.r = r - (r[int(at_zero[0]), -1] if len(at_zero) else r[0, 0])
        """r(P) at the nodes, (leaves, NODES)."""

    @_elementwise
    def __call__(self, x: Tensor) -> Tensor:
        """Return P(x), with the shape and dtype of `x`; NaN outside the mesh."""
        leaf = self.mesh.leaf_of(x)  # the clamp keeps P on a plateau from leaving it by an ulp
        return self.mesh.interpolate(self.p, x).clamp(self.p[leaf, 0], self.p[leaf, -1])

    @_elementwise
    def regularizer(self, z: Tensor) -> Tensor:
        """Return r(z) = ∫(P⁻¹ - id), with the shape and dtype of `z`.

        r is 0 at P(0), or at P of the left end of a mesh without 0. For z that P jumps over at x₀, P⁻¹ is x₀. Beyond an
        end of the range of P, r is +∞ if P is flat there, else NaN.
        """
        at = self.preimage(z)
        rise = at.z - self.p[at.leaf, 0]
        across = self.r[at.leaf, 0] + rise * (self.mesh.high[at.leaf] - (at.z + self.p[at.leaf, 0]) / 2)
        value = torch.where(at.in_gap, across, self.mesh.interpolate_on(self.r, at.leaf, at.first))
        left, right = (torch.inf if flat else torch.nan for flat in self.ends)
        return torch.where(at.outside > 0, right, torch.where(at.outside < 0, left, value))

    def preimage(self, z: Tensor) -> Preimage:
        """Find the `Preimage` of the values `z`, float64 (n,): the points at which P reaches them."""
        top = self.p[:, -1].contiguous()
        inside = z.clamp(self.p[0, 0], top[-1])
        outside = (z - inside).sign() * ((z - inside).abs() > 1e-9 * z.abs().clamp(min=1))
        leaf = torch.searchsorted(top, inside).clamp(max=len(top) - 1)
        low, high = self.mesh.low[leaf], self.mesh.high[leaf]
        _, reached = bisected(low, high, lambda x: self.mesh.interpolate_on(self.p, leaf, x) < inside)
        last = torch.searchsorted(top, inside, right=True) - 1  # the last leaf at whose end P is still the same
        first = torch.where(self.mesh.smooth[leaf], reached, high)
        x = torch.where(last > leaf, (first + self.mesh.high[last]) / 2, first)
        in_gap = ~self.mesh.smooth[leaf] & (inside > self.p[leaf, 0]) & (inside < self.p[leaf, -1])
        return Preimage(inside, leaf, first, x, in_gap, outside)


@dataclass(frozen=True)
class TransformCurve:
    """The transform T on the range of P, with F = T∘P and B = T'∘P; straight across the gaps of P."""

    sample: Sample
    prox: ProxCurve
    slopes: Tensor
    """B(x₀), the slope of T across a gap of P, (leaves,); used only on leaves that are not smooth."""

    @_elementwise
    def __call__(self, z: Tensor) -> Tensor:
        """Return T(z), with the shape and dtype of `z`; NaN outside the range of P."""
        at = self.prox.preimage(z)
        across = self.sample.forward[at.leaf, 0] + (at.z - self.prox.p[at.leaf, 0]) * self.slopes[at.leaf]
        value = torch.where(at.in_gap, across, self.sample.F(at.x))
        return torch.where(at.outside != 0, torch.nan, value)

    @_elementwise
    def derivative(self, z: Tensor) -> Tensor:
        """Return T'(z), with the shape and dtype of `z`; NaN outside the range of P."""
        at = self.prox.preimage(z)
        value = torch.where(at.in_gap, self.slopes[at.leaf], self.sample.B(at.x))
        return torch.where(at.outside != 0, torch.nan, value)


def reconstruct(
    sample: Sample, plateaus: Iterable[Plateau], jumps: Iterable[Jump], anchor: float
) -> tuple[ProxCurve, TransformCurve]:
    """Make P = ∫dF/B and T of a legitimate pair from a `Sample` of F and B and all plateaus and jumps of F.

    `anchor` is P at 0, or the middle of its jump there, or P at the left end for a mesh without 0 inside.
    """
    mesh = sample.mesh
    flat, level = torch.zeros(2, len(mesh.x), dtype=torch.bool)
    for plateau in plateaus:
        flat[plateau.first : plateau.last + 1] = plateau.flat
        level[plateau.first : plateau.last + 1] = True
    free = (sample.is_unit | level) & mesh.smooth & ~flat
    slopes = sample.backward[:, -1].clone()
    for jump in jumps:
        slopes[jump.at.first : jump.at.last + 1] = jump.here
    F, B = sample.forward, sample.backward
    clear = B.abs().amin(1) > 0.05 * B.abs().amax(1)
    quotient = mesh.integrals(mesh.slopes(F) / torch.where(clear[:, None], B, 1.0))
    steps = _step(F.diff(dim=1), (B[:, 1:] + B[:, :-1]) / 2).cumsum(1)  # if B is nearly 0: the trapezoidal rule in F
    quotient = torch.where(clear[:, None], quotient, torch.nn.functional.pad(steps, (1, 0)))
    moved = torch.where(free[:, None], mesh.x - mesh.x[:, :1], quotient)
    moved = torch.where(flat[:, None], 0.0, moved)
    jumped = _step(sample.forward[:, -1] - sample.forward[:, 0], slopes)[:, None] * (UNIT_NODES == 1)
    moved = torch.where(mesh.smooth[:, None], moved, jumped)  # a jump within a leaf is over at its last node alone
    p = nondecreasing(_chained(mesh, moved))
    curve = ProxCurve(mesh, p + (anchor - middle_at_zero(mesh, p)), free)
    return curve, TransformCurve(sample, curve, slopes)


def nondecreasing(p: Tensor) -> Tensor:
    """Return the values `p` of P at the nodes, (leaves, NODES), each raised to the largest up to it over all leaves."""
    return p.flatten().cummax(0).values.reshape(p.shape)


def middle_at_zero(mesh: Mesh, p: Tensor) -> Tensor:
    """Return P at 0, 0-dim, from values at the nodes: the middle of a jump; P at the left end if 0 is not inside."""
    ends = (mesh.high[:-1] == 0).nonzero()
    if not len(ends):
        return p[0, 0]
    before, after = int(ends[0]), int(ends[0]) + 1
    left = p[before, -1] if mesh.smooth[before] else p[before, 0]
    right = p[after, 0] if mesh.smooth[after] else p[after, -1]
    return (left + right) / 2


def _chained(mesh: Mesh, moved: Tensor) -> Tensor:
    """Return values at the nodes from the gain since the left end of each leaf, (leaves, NODES), and 0 at x = 0."""
    # Summed away from 0, so that a P of 1e90 at an end leaves P near 0 exact.
    gains, origin = moved[:, -1], int((mesh.high <= 0).sum()) % len(mesh.x)
    before, after = -gains[:origin].flip(0).cumsum(0).flip(0), gains[origin:-1].cumsum(0)
    return moved + torch.cat([before, gains.new_zeros(1), after])[:, None]


def _step(rise: Tensor, slopes: Tensor) -> Tensor:
    """Return ΔF/B(x₀) if F jumps with the sign of B, else 0."""
    return torch.where(rise * slopes > 0, rise / torch.where(slopes == 0, 1.0, slopes), 0.0)
