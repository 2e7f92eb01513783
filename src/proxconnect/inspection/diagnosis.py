"""Diagnosis: common problems that the meters show in a run, with advice."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from proxconnect._support.arguments import number
from proxconnect._support.text import some
from proxconnect.inspection.meters import EDGES, LayerHealth
from proxconnect.layers.one_sign import ADVICE
from proxconnect.quantizer.softness import SOFT

Readings = Sequence[LayerHealth]
"""The readings of one layer, oldest first."""

EARLY, LATE = 0.5, 0.95
"""Gradients must pass and signs flip up to the first share of a run, and weights be hard from the second on."""

DEAD = 0.99
"""A share of weights without gradient that is too large. Some pairs (poly+, clip+) end with 0.98 by design."""

DEAD_INPUT = 0.9
"""Likewise for inputs. "poly" and "bnn" stop a third of Gaussian inputs, such as those after batch norm."""

STILL = 1e-5
"""A smaller share of flips in an epoch counts as none."""

OVERFLOWING = 0.05
"""Too large a share of overflows: wrapping 0.007 cost nothing on digits, and 0.16 a third of the accuracy."""


@dataclass(frozen=True)
class Trouble:
    """A problem of a training run that `diagnose` found, and advice; `str()` gives both sentences."""

    layers: tuple[str, ...]
    """The qualified names of the layers that show it; empty for a problem of the whole run."""
    what: str
    """The problem, as a sentence."""
    advice: str
    """A suggestion, as a sentence."""

    def __str__(self) -> str:
        return f"{self.what} {self.advice}"


def diagnose(
    *readings: Mapping[str, LayerHealth], loss: float | None = None, progress: float | None = None
) -> list[Trouble]:
    """Explain common problems of a training run that meter readings show, the gravest first, and suggest fixes.

    Args:
        readings: results of `Meters.layers()` over about an epoch, oldest first: mappings from the qualified name of a
            layer to its health. One is enough if you read the meters once an epoch. Most problems are looked for in the
            last reading only.
        loss: a recent value of the loss.
        progress: the share of the run that is done, in [0, 1]. Without it, problems of the early phase (gradients that
            do not pass, signs that do not flip) are reported at any time, and soft weights or inputs never.

    Returns:
        The problems, each with the layers that show it; an empty list if there are none.

    Raises:
        ValueError: there is no reading, or `progress` is outside [0, 1].
        TypeError: a reading is no result of `Meters.layers()`, or `loss` or `progress` is no number.

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
    loss = None if loss is None else number(loss, "loss")
    progress = None if progress is None else number(progress, "progress")
    if progress is not None and not 0 <= progress <= 1:
        raise ValueError(f"progress must be from 0 to 1; got {progress:g}")
    layers = {name: [reading[name] for reading in readings if name in reading] for name in readings[-1]}
    troubles = []
    if loss is not None and not math.isfinite(loss):
        advice = (
            "Go back to the last checkpoint and lower the learning rate, warm it up or clip gradients; with float16 "
            "take a GradScaler, or bfloat16."
        )
        troubles.append(Trouble((), f"The loss is {loss:g}.", advice))
    for symptom in _SYMPTOMS:
        is_past = symptom.phase == "early" and progress is not None and progress > EARLY
        is_to_come = symptom.phase == "late" and (progress is None or progress < LATE)
        shown = tuple(name for name, its_readings in layers.items() if symptom.is_seen(its_readings))
        if shown and not is_past and not is_to_come:
            share = f"all {len(layers)}" if len(shown) == len(layers) else f"{len(shown)} of {len(layers)}"
            which = "the only binary layer" if len(layers) == 1 else f"{share} binary layers ({some([*shown])})"
            troubles.append(Trouble(shown, symptom.what.format(layers=which), symptom.advice))
    return troubles


class _Symptom(NamedTuple):
    """A problem that the readings of a layer may show, and the sentences about it."""

    is_seen: Callable[[Readings], bool]
    what: str
    advice: str
    phase: Literal["any", "early", "late"] = "any"


def _last(readings: Readings, name: str) -> float:
    """Return a number of the last reading; 0 if it is not known."""
    return float(getattr(readings[-1], name) or 0.0)


def _is_far(readings: Readings) -> bool:
    """Return whether nearly all latents are beyond ±1, in units of ᾱ."""
    bins = zip((-math.inf, *EDGES), readings[-1].histogram, strict=True)
    return sum(share for low, share in bins if low < -1 or low >= 1) >= DEAD_INPUT


def _has_still_signs(readings: Readings) -> bool:
    rates = [health.flip_rate for health in readings if health.flip_rate is not None]
    return bool(rates) and _last(readings, "nonfinite_share") == 0 and sum(rates) < STILL


def _has_one_sign(readings: Readings) -> bool:
    """Return whether the binary input had the same sign in all readings that know it."""
    shares = [health.input_positive_share for health in readings if health.input_positive_share is not None]
    return bool(shares) and set(shares) in ({0.0}, {1.0}) and _last(readings, "input_nonfinite_share") == 0


_SYMPTOMS = (
    _Symptom(
        lambda readings: _last(readings, "nonfinite_share") > 0,
        "Latents of {layers} are NaN or infinite.",
        "Nothing brings them back: go on from the last checkpoint with a lower learning rate, a warm-up or clipped "
        "gradients.",
    ),
    _Symptom(
        lambda readings: _last(readings, "input_nonfinite_share") > 0,
        "Inputs of {layers} are NaN or infinite.",
        "Look at the data and at what stands before the first of them; with float16 take bfloat16.",
    ),
    _Symptom(
        lambda readings: _last(readings, "gradient_nonfinite_share") > 0 == _last(readings, "nonfinite_share"),
        "Gradients of {layers} are NaN or infinite.",
        "A GradScaler leaves such a step out, now and then; without one the latents are lost next: lower the learning "
        "rate, warm it up, clip gradients, or take bfloat16 for float16.",
    ),
    _Symptom(
        _has_one_sign,
        "Binary inputs of {layers} have one sign only, the same for every example, so these layers learn nothing from "
        "them.",
        f"{ADVICE}.",
    ),
    _Symptom(
        lambda readings: _last(readings, "dead_share") >= DEAD and not _is_far(readings),
        "Weights of {layers} get no gradient, since B = 0 almost everywhere: F is too sharp too early.",
        "Let Sharpening start at a lower μ, or take more steps to its end.",
        "early",
    ),
    _Symptom(
        lambda readings: _last(readings, "dead_share") >= DEAD and _is_far(readings),
        "Weights of {layers} get no gradient, since their latents lie where B is 0.",
        "Clip them by pc.clip_latents(optimizer, model), lower the learning rate, or binarize with scale='channel'.",
        "early",
    ),
    _Symptom(
        lambda readings: _last(readings, "input_dead_share") >= DEAD_INPUT,
        "Hardly any gradient passes through the binary inputs of {layers}: they lie where B is 0.",
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
        lambda readings: _last(readings, "overflow_share") >= OVERFLOWING,
        f"More than {OVERFLOWING:.0%} of the sums of {{layers}} overflow.",
        "Take an Accumulator of more bits, overflow='saturate', or derivative='clamp' with pc.OverflowPenalty(model).",
    ),
    _Symptom(
        lambda readings: _last(readings, "softness") > SOFT,
        "Weights of {layers} are still soft, so that hardening them may cost accuracy.",
        "Let Sharpening end at a higher μ. Full precision (the pair 'fp', post_training) is so by intention.",
        "late",
    ),
    _Symptom(
        lambda readings: _last(readings, "input_softness") > SOFT,
        "Inputs of {layers} are still soft, so that hardening them may cost accuracy.",
        "Let a Sharpening of part='both' move their μ, or take activations that are hard in train(), as 'bnn+'.",
        "late",
    ),
)
