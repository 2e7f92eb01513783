"""Mean ranks of labels over settings, with Friedman's test and Nemenyi's critical difference.

Source: Demšar 2006, Statistical Comparisons of Classifiers over Multiple Data Sets, Journal of Machine Learning
Research 7.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pandas import DataFrame

from proxconnect._support import extras
from proxconnect.training.study.tables import REESTIMATED, Table, axes, spreads

LEVEL = 0.95
"""The confidence of all labels together: of studies in which none differs, a share of 0.05 finds some difference."""


@dataclass(frozen=True)
class Ranking:
    """Mean ranks of labels over settings; rank 1 is the best, and ties share the mean of their ranks."""

    axis: str
    means: dict[str, float]
    """The mean rank by label."""
    settings: int
    """The number of settings in which every label has a row, at least 2."""

    @property
    def friedman(self) -> float:
        """Friedman's χ² of the mean ranks, without a correction for ties; it is 0 if all are alike."""
        n, k = self.settings, len(self.means)
        total: float = 12 * n / (k * (k + 1)) * (sum(mean**2 for mean in self.means.values()) - k * (k + 1) ** 2 / 4)
        return total

    @property
    def f_statistic(self) -> float:
        """The F of Iman and Davenport, (N - 1)χ²/(N(k - 1) - χ²); infinite if all settings rank the labels alike."""
        rest = self.settings * (len(self.means) - 1) - self.friedman
        return (self.settings - 1) * self.friedman / rest if rest > 1e-9 else math.inf

    @property
    def p_value(self) -> float:
        """The probability of an F at least as large if no label differs."""
        k, n = len(self.means), self.settings
        result: float = extras.require("scipy.stats", "train").f.sf(self.f_statistic, k - 1, (k - 1) * (n - 1))
        return result

    @property
    def critical_difference(self) -> float:
        """Nemenyi's q·√(k(k + 1)/(6N)): mean ranks that lie farther apart than this differ at `LEVEL`."""
        k, n = len(self.means), self.settings
        quantile: float = extras.require("scipy.stats", "train").studentized_range.ppf(LEVEL, k, math.inf)
        return quantile / math.sqrt(2) * math.sqrt(k * (k + 1) / (6 * n))


def ranking(rows: DataFrame, axis: str, labels: Sequence[str]) -> Ranking | None:
    """Rank `labels` of `axis` by their mean re-estimated accuracy in each setting that has them all.

    Return None if fewer than two settings do. A setting is a combination of labels of the axes other than `axis` and
    the seed.
    """
    cells = spreads(rows[rows[axis].isin(labels)], REESTIMATED)
    places = axes(cells, axis)
    groups = [group.set_index(axis)["mean"] for _, group in cells.groupby(places or (lambda _: ""), sort=False)]
    whole = DataFrame([group.reindex(labels) for group in groups]).dropna()
    if len(whole) < 2:
        return None
    means = whole.rank(axis=1, ascending=False).mean()
    return Ranking(axis, {label: float(means[label]) for label in labels}, len(whole))


def ranking_table(found: Ranking) -> Table:
    """Return a table of the mean ranks, the best first, with intervals of half a critical difference on each side."""
    half = found.critical_difference / 2
    ordered = sorted(found.means.items(), key=lambda item: item[1])
    lines = tuple((label, f"{mean:.2f}", f"[{mean - half:.2f}, {mean + half:.2f}]") for label, mean in ordered)
    notes = (
        f"Rank 1 is the best. Two labels differ at {LEVEL:.0%} if their intervals do not overlap: if their mean ranks "
        f"differ by more than {2 * half:.2f} (Nemenyi). Friedman's test of no difference at all: "
        f"p = {found.p_value:.2g} (Demšar 2006). It takes the settings as independent.",
    )
    title = f"Mean rank of each {found.axis} over {found.settings} settings"
    return Table(title, (found.axis, "mean rank", "95 % interval"), lines, notes)
