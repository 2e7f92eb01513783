"""The conditions of a certificate, each as one number that is the worst of the run, and whether it may be that.

Proximality, which takes a search, has a file of its own.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from proxconnect.pairs import Pair
from proxconnect.theory.account import Account
from proxconnect.theory.composite import Composite, Excess
from proxconnect.theory.declaration import Declaration
from proxconnect.theory.trajectory import Trajectory

IDENTITY = 1e-10
"""The relative gap that the identity may have in float64."""

SAME = 1e-7
"""How far F and g may be from T(p) and T'(p) ⊙ ∇ℓ in float64, relative to the largest entry of the step."""

CONVEX = 1e-9
"""How far the convexity inequality may be missed, relative to its terms."""

_VERDICTS = {True: "holds", False: "fails", None: "not checked"}


@dataclass(frozen=True)
class Check:
    """One thing that can fail: a number, and where in the run it was found."""

    name: str
    holds: bool | None
    """None where it was not checked."""
    value: float
    """The number that was seen, the worst of the run; NaN where it was not checked."""
    reason: str
    """What the number is, or why there is none."""
    step: int | None = None
    """τ, from 1; for Δ_τ from 0."""
    entry: int | None = None
    """The entry of the latent, or for the convexity inequality the comparison point."""

    @property
    def detail(self) -> str:
        """What the number is, the number, and where it was found if that is a failure."""
        number = "" if math.isnan(self.value) else f" {self.value:.3g}"
        if self.holds is not False or self.step is None:
            return self.reason + number
        place = "" if self.entry is None else f", {'point' if self.name == 'convexity' else 'entry'} {self.entry}"
        return f"{self.reason}{number}, step {self.step}{place}"

    def __str__(self) -> str:
        return f"{_VERDICTS[self.holds]:11}  {self.detail}"


def identity(owed: Account, resolution: float) -> Check:
    """Both sides of the identity agree."""
    gaps = owed.gap
    if not bool(gaps.isfinite().all()):
        return Check("identity", None, math.nan, "Φ is infinite at a prox point")
    step = int(gaps.amax(0).argmax())
    value = float(gaps[:, step].max())
    return Check("identity", value <= max(IDENTITY, 64 * resolution), value, "relative gap", step + 1)


def forward(trajectory: Trajectory, pair: Pair, composite: Composite) -> Check:
    """F(w*_τ) is T(p_τ) with the T of the last step."""
    transformed, weights = composite.weights, trajectory.weights
    if weights is None:
        latents, mu = trajectory.latents[:-1], trajectory.mu[:-1]
        weights = torch.cat([pair.forward(row, float(m))[None] for row, m in zip(latents, mu, strict=True)])
    misses = (weights - transformed).abs()
    allowed = max(SAME, 64 * trajectory.resolution) * (1 + transformed.abs().amax(1, keepdim=True))
    step, entry = _worst(misses / allowed)
    moves = pair.transform.sharpness is not None and bool((trajectory.mu[:-1] != trajectory.mu[0]).any())
    reason = "T moves with μ, by" if moves else "greatest miss"
    holds = bool((misses <= allowed).all())
    return Check("forward", holds, float(misses[step, entry]), reason, step + 1, entry)


def gradient(trajectory: Trajectory, pair: Pair, composite: Composite) -> Check:
    """g is T'(p) ⊙ ∇ℓ, with the gradients that were recorded and with those of the loss; T' the derivative of T.

    A run by other gradients than those of the loss, as of its batches, owes that loss nothing.
    """
    if (error := _wrong_derivative(pair, composite)) is not None:
        return Check("gradient", False, math.nan, error)
    recorded, of_loss = trajectory.gradients, composite.gradients
    beside = "greatest relative miss" if recorded is None else "∇ℓ was not that of this loss, relative miss"
    known = ((recorded, "greatest relative miss"), (of_loss, beside))
    seen = [_missed(trajectory, composite, given, reason) for given, reason in known if given is not None]
    if not seen:
        return Check("gradient", None, math.nan, "g needs a loss, or recorded gradients")
    return next((check for check in seen if not check.holds), seen[0])


def _missed(trajectory: Trajectory, composite: Composite, gradients: Tensor, reason: str) -> Check:
    """How far g is from T'(p) ⊙ these gradients, (t, n)."""
    expected, updates = composite.derivative * gradients, trajectory.updates
    stepped = trajectory.learning_rates > 0
    largest = torch.maximum(expected.abs(), updates.abs()).amax(1)
    reach = trajectory.latents.abs().amax(1)[:-1] / torch.where(stepped, trajectory.learning_rates, 1.0)
    allowed = max(SAME, 64 * trajectory.resolution)
    size = largest + 8 * trajectory.resolution / allowed * reach  # g is known to the rounding of latents over η
    misses = (updates - expected).abs() * stepped[:, None] / size.clamp(min=torch.finfo(torch.float64).tiny)[:, None]
    step, entry = _worst(misses)
    value = float(misses[step, entry])
    return Check("gradient", value <= allowed, value, reason, step + 1, entry)


def convexity(excess: Excess | None) -> Check:
    """⟨p_τ - w, ∇(ℓ∘T)(p_τ)⟩ is at least (ℓ∘T)(p_τ) - (ℓ∘T)(w) for all comparison points w."""
    if excess is None:
        return Check("convexity", None, math.nan, "it needs a loss")
    allowed = CONVEX * (1 + excess.slacks.abs() + excess.values.abs())
    point, step = _worst(-excess.slacks / allowed)
    holds = bool((excess.slacks >= -allowed).all())
    return Check("convexity", holds, float(excess.slacks[point, step]), "least slack", step + 1, point)


def _worst(values: Tensor) -> tuple[int, int]:
    """The indices of the largest entry of (m, n)."""
    return divmod(int(values.argmax()), values.shape[1])


def _wrong_derivative(pair: Pair, composite: Composite) -> str | None:
    """Where the T' of the pair is not the derivative of its T on the part of the line that the run is on."""
    low, high = float(composite.p.min()), float(composite.p.max())
    alone = Pair(pair.name, transform=pair.transform)  # P of the run is looked at by itself
    return Declaration(alone, composite.mu, low, high).error if low < high else None
