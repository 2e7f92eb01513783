"""The potential Φ of a prox, Φ = ½z² + r, of which the prox point is the minimiser: P(x) = argmin_z Φ(z) - xz."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from proxconnect.pairs import Pair, Prox
from proxconnect.theory.curves import ProxCurve
from proxconnect.theory.declaration import Declaration, fall_of
from proxconnect.theory.mesh import REACH

Potential = Callable[[Tensor], Tensor]


class NotProximalError(ValueError):
    """A map of the line falls somewhere, so that it is the prox of nothing; the message says where."""


@dataclass(frozen=True, eq=False)
class Integrated:
    """Φ(z) = ½z² + r(z) with the r that a curve of P gives: r = ∫(P⁻¹ - id)."""

    curve: ProxCurve

    def __call__(self, z: Tensor) -> Tensor:
        """Φ(z), with the shape of `z`."""
        return 0.5 * z.square() + self.curve.regularizer(z)


def potential(prox: Prox, mu: float = 1.0, reach: float = REACH) -> Potential:
    """Φ = ½z² + r at sharpness `mu`: a function of float64 tensors of any shape, +∞ outside its domain.

    From `prox.regularizer`, where the prox states it. Where not, P is integrated on [-reach, reach], with an error
    below 1e-9 within ±4 for a P that is smooth between its jumps: Φ is affine inside a gap of the range, +∞ beyond a
    range that ends in a plateau, and NaN beyond what P reaches. The two differ by a constant, and inside gaps, where r
    may be anything above. Φ at p is NaN where p is NaN.

    Raises:
        NotProximalError: P falls somewhere.
        ProbeError: P gives no finite float64 values.
        TooRoughError: P has more jumps and kinks than can be told apart.
    """
    if not isinstance(prox, Prox):
        raise TypeError(f"potential takes a Prox, as that of a pair, PAIRS['bnn'].prox; got {type(prox).__name__}")
    try:
        prox.regularizer(torch.zeros(1, dtype=torch.float64), mu)
    except NotImplementedError:
        return _integrated(prox, mu, reach)
    return lambda z: 0.5 * z.square() + prox.regularizer(z, mu)


def _integrated(prox: Prox, mu: float, reach: float) -> Integrated:
    declared = Declaration(Pair(repr(prox), prox), mu, -reach, reach)
    fall = fall_of(declared.mesh, "P")
    if fall is not None:
        raise NotProximalError(f"{fall}: it is the prox of nothing, since those maps are nondecreasing")
    return Integrated(declared.prox)
