"""Diagnosis: what the meters show of a run that goes wrong, in words, and what to try."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from proxconnect._support.arguments import require_number
from proxconnect._support.text import some
from proxconnect.inspection.meters import EDGES, LayerHealth

Readings = Sequence[LayerHealth]
"""Those of one layer, oldest first."""

EARLY, LATE = 0.5, 0.95
"""Until which share of a run gradients must pass and signs flip, and from which on weights must be hard."""

DEAD = 0.99
"""More weights without gradient are too many. Some pairs (poly+, clip+) end with 0.98 by design."""

DEAD_INPUT = 0.9
"""Likewise of inputs; of Gaussian ones, as batch norm makes them, "poly" and "bnn" stop a third."""

SOFT = 0.1
"""A mean distance from ±1 above it is too much at the end, where the usual range of μ leaves 0.00 to 0.05."""

STILL = 1e-5
"""A smaller share of flips in an epoch is none."""

OVERFLOWING = 0.05
"""More sums that overflow are too many: with wrapping 0.007 cost nothing on digits, 0.16 a third of the accuracy."""


@dataclass(frozen=True)
class Trouble:
    """Something that goes wrong in a run; `str()` is both sentences."""

    layers: tuple[str, ...]
    """The qualified names of the layers that show it; none where the run as a whole does."""
    what: str
    """What goes wrong, a sentence."""
    advice: str
    """What to try, a sentence."""

    def __str__(self) -> str:
        return f"{self.what} {self.advice}"


def diagnose(
    *readings: Mapping[str, LayerHealth], loss: float | None = None, progress: float | None = None
) -> list[Trouble]:
    """What goes wrong by the `readings` of `Meters.layers()`, the gravest first; empty where nothing is seen.

    Args:
        readings: those of about an epoch, oldest first; one is enough where the meters are read once an epoch. What is
            said of inputs is of the first batch after the reading before the last.
        loss: a recent value of the loss.
        progress: the share of the run that is done, in [0, 1]. What is wrong early alone (gradients that do not pass,
            signs that do not flip) is told without it too, what is wrong late alone (weights that are soft) is not.

    ValueError where there is no reading, or `progress` is outside [0, 1]; TypeError for other readings.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))
        >>> meters = pc.Meters(pc.binarize(model, "bc"))
        >>> for batch in torch.randn(3, 16, 4):
        ...     model(batch).square().mean().backward()
        ...     numbers = meters.read()
        >>> for trouble in pc.diagnose(meters.layers(), progress=0.2):
        ...     print(trouble)
        No signs flip in the only binary layer. See that the optimizer holds the latents (parameters whose names end in
        'latent'), raise its learning rate, or let Sharpening start at a lower μ.
    """
    if not readings:
        raise ValueError("diagnose takes what Meters.layers() gave after a read(): pass at least one reading")
    for reading in readings:
        if not isinstance(reading, Mapping) or not all(isinstance(health, LayerHealth) for health in reading.values()):
            raise TypeError(f"diagnose takes what Meters.layers() gave after a read(); got {type(reading).__name__}")
    if loss is not None:
        require_number(loss, "loss")
    if progress is not None and not 0 <= progress <= 1:
        raise ValueError(f"progress must be from 0 to 1; got {progress}")
    layers = {name: [reading[name] for reading in readings if name in reading] for name in readings[-1]}
    troubles = [] if loss is None or math.isfinite(loss) else [_of_loss(loss)]
    for symptom in _SYMPTOMS:
        if symptom.can_be_told(progress):
            shown = [name for name, its_readings in layers.items() if symptom.is_seen(its_readings)]
            troubles += [symptom.told(shown, len(layers))] if shown else []
    return troubles


@dataclass(frozen=True)
class _Symptom:
    """What one layer's readings may show, and what is said of the layers that show it."""

    is_seen: Callable[[Readings], bool]
    what: str
    advice: str
    phase: Literal["any", "early", "late"] = "any"

    def can_be_told(self, progress: float | None) -> bool:
        """Whether it is wrong at this time of a run."""
        if self.phase == "late":
            return progress is not None and progress >= LATE
        return self.phase == "any" or progress is None or progress <= EARLY

    def told(self, layers: list[str], count: int) -> Trouble:
        """The trouble of these layers, of so many."""
        share = f"all {count} binary layers" if len(layers) == count else f"{len(layers)} of {count} binary layers"
        which = "the only binary layer" if count == 1 else f"{share} ({some(layers)})"
        return Trouble(tuple(layers), self.what.format(layers=which), self.advice)


def _of_loss(loss: float) -> Trouble:
    return Trouble((), f"The loss is {loss:g}.",
                   "Go back to the last checkpoint and lower the learning rate, warm it up or clip gradients; with "
                   "float16 take a GradScaler, or bfloat16.")  # fmt: skip


def _is_finite(readings: Readings) -> bool:
    return readings[-1].nonfinite_share == 0


def _gets_no_gradient(readings: Readings) -> bool:
    return readings[-1].dead_share >= DEAD


def _is_far(readings: Readings) -> bool:
    """Whether nearly all latents are beyond ±1, in units of ᾱ."""
    bins = zip((-math.inf, *EDGES), readings[-1].histogram, strict=True)
    return sum(share for low, share in bins if low < -1 or low >= 1) >= DEAD_INPUT


def _has_still_signs(readings: Readings) -> bool:
    rates = [health.flip_rate for health in readings if health.flip_rate is not None]
    return bool(rates) and _is_finite(readings) and sum(rates) < STILL


def _has_dead_input(readings: Readings) -> bool:
    dead = readings[-1].input_dead_share
    return dead is not None and dead >= DEAD_INPUT


def _has_soft_input(readings: Readings) -> bool:
    softness = readings[-1].input_softness
    return softness is not None and softness > SOFT


def _has_lost_input(readings: Readings) -> bool:
    return bool(readings[-1].input_nonfinite_share)


def _has_lost_gradient(readings: Readings) -> bool:
    """Whether gradients are lost and latents not yet."""
    return _is_finite(readings) and bool(readings[-1].gradient_nonfinite_share)


def _overflows(readings: Readings) -> bool:
    share = readings[-1].overflow_share
    return share is not None and share >= OVERFLOWING


_SYMPTOMS = (
    _Symptom(
        lambda readings: not _is_finite(readings),
        "Latents of {layers} are NaN or infinite.",
        "Nothing brings them back: go on from the last checkpoint with a lower learning rate, a warm-up or clipped "
        "gradients.",
    ),
    _Symptom(
        _has_lost_input,
        "Inputs of {layers} are NaN or infinite.",
        "Look at the data and at what stands before the first of them; with float16 take bfloat16.",
    ),
    _Symptom(
        _has_lost_gradient,
        "Gradients of {layers} are NaN or infinite.",
        "A GradScaler leaves such a step out, now and then; without one the latents are lost next: lower the learning "
        "rate, warm it up, clip gradients, or take bfloat16 for float16.",
    ),
    _Symptom(
        lambda readings: _gets_no_gradient(readings) and not _is_far(readings),
        "Weights of {layers} get no gradient, since B = 0 almost everywhere: F is too sharp too early.",
        "Let Sharpening start at a lower μ, or take more steps to its end.",
        "early",
    ),
    _Symptom(
        lambda readings: _gets_no_gradient(readings) and _is_far(readings),
        "Weights of {layers} get no gradient, since their latents are beyond the reach of B.",
        "Clip them by pc.clip_latents(optimizer, model), lower the learning rate, or binarize with scale='channel'.",
        "early",
    ),
    _Symptom(
        _has_dead_input,
        "Hardly any gradient passes through the binary inputs of {layers}: they are beyond the reach of B.",
        "Put batch norm before these layers, or take activations of a lower μ or of another pair, as 'bnn+'.",
        "early",
    ),
    _Symptom(
        _has_still_signs,
        "No signs flip in {layers}.",
        "See that the optimizer holds the latents (parameters whose names end in 'latent'), raise its learning rate, "
        "or let Sharpening start at a lower μ.",
        "early",
    ),
    _Symptom(
        _overflows,
        f"More than {OVERFLOWING:.0%} of the sums of {{layers}} overflow.",
        "Take an Accumulator of more bits, overflow='saturate', or derivative='clamp' with pc.OverflowPenalty(model).",
    ),
    _Symptom(
        lambda readings: readings[-1].softness > SOFT,
        "Weights of {layers} are still soft, so that hardening them may cost accuracy.",
        "Let Sharpening end at a higher μ. Full precision (the pair 'fp', post_training) is so by intention.",
        "late",
    ),
    _Symptom(
        _has_soft_input,
        "Inputs of {layers} are still soft, so that hardening them may cost accuracy.",
        "Let a Sharpening of part='both' move their μ, or take activations that are hard in train(), as 'bnn+'.",
        "late",
    ),
)
