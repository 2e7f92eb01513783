"""Means over seeds, and differences paired by seed with their intervals."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from proxconnect._support import extras
from proxconnect.training.study.grid import Labels
from proxconnect.training.study.ledger import Entry

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """The mean of so many values and their sample standard deviation, None of one value."""

    count: int
    mean: float
    sd: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        return cls(len(values), statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True)
class Pooled:
    """The standard deviation within settings that have one in common, and its degrees of freedom."""

    sd: float
    freedom: int

    @classmethod
    def of(cls, spreads: Iterable[Spread]) -> "Pooled | None":
        """Of the settings of two seeds or more, √(Σ (n - 1)·sd² / Σ (n - 1)); None without one."""
        known = [(spread.count - 1, spread.sd) for spread in spreads if spread.sd is not None]
        freedom = sum(count for count, _ in known)
        if not freedom:
            return None
        return cls(math.sqrt(math.fsum(count * sd * sd for count, sd in known) / freedom), freedom)


@dataclass(frozen=True)
class Difference:
    """What one label has more than another in the same setting: the mean of the differences seed by seed.

    `interval` is that of Student's t for the mean at 95 %, None of one seed.
    """

    axis: str
    one: str
    other: str
    setting: Labels
    """The labels of the other axes, but the seed."""
    count: int
    mean: float
    interval: tuple[float, float] | None

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval is on one side of 0."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


def cells(
    entries: Iterable[Entry], figure: str, less: str | None = None
) -> dict[tuple[tuple[str, str], ...], list[float]]:
    """By setting, which is all labels but the seed, the values of the measured `figure` that rows have.

    With `less`, by how much it exceeds that figure of the same row.
    """
    result: dict[tuple[tuple[str, str], ...], list[float]] = {}
    for entry in entries:
        value, subtracted = entry.figure(figure), 0.0 if less is None else entry.figure(less)
        if value is not None and subtracted is not None:
            result.setdefault(tuple(setting_of(entry.labels).items()), []).append(value - subtracted)
    return result


def setting_of(labels: Mapping[str, str], *apart: str) -> Labels:
    """The labels but for the seed and the axes `apart`."""
    return {axis: label for axis, label in labels.items() if axis != "seed" and axis not in apart}


def differences(entries: Iterable[Entry], axis: str, one: str, other: str, figure: str) -> list[Difference]:
    """`one` less `other` on `axis`, in each setting in which both have a seed in common."""
    values: dict[tuple[tuple[str, str], ...], dict[str, dict[str, float]]] = {}
    for entry in entries:
        value = entry.figure(figure)
        if value is not None and entry.labels.get(axis) in (one, other):
            setting = values.setdefault(tuple(setting_of(entry.labels, axis).items()), {})
            setting.setdefault(entry.labels[axis], {})[entry.labels.get("seed", "")] = value
    result = []
    for key, sides in values.items():
        ones, others = sides.get(one, {}), sides.get(other, {})
        paired = [ones[seed] - others[seed] for seed in ones if seed in others]
        if paired:
            spread = Spread.of(paired)
            result.append(Difference(axis, one, other, dict(key), spread.count, spread.mean, mean_interval(spread)))
    return result


def mean_interval(spread: Spread) -> tuple[float, float] | None:
    """The interval of the mean, by Student's t; None of one value."""
    if spread.sd is None:
        return None
    half = quantile(spread.count - 1) * spread.sd / math.sqrt(spread.count)
    return spread.mean - half, spread.mean + half


def next_interval(spread: Spread, pooled: Pooled) -> tuple[float, float]:
    """Where one more value lies with 95 % confidence, by Student's t: mean ± t·sd·√(1 + 1/n), sd the pooled one."""
    half = quantile(pooled.freedom) * pooled.sd * math.sqrt(1 + 1 / spread.count)
    return spread.mean - half, spread.mean + half


@cache
def quantile(freedom: int) -> float:
    """Student's t that is exceeded on either side with 5 % in all."""
    return float(extras.require("scipy.stats", "train").t.ppf(0.5 + CONFIDENCE / 2, freedom))
