"""Means over seeds, and differences paired by seed with their intervals, as data frames.

A frame has a column for each axis, with "" for rows without a label, and columns of numbers.
"""

import math
import statistics
from collections.abc import Sequence

import pandas
from pandas import DataFrame

from proxconnect._support import extras
from proxconnect.training.study.grid import OTHER_COLUMNS, Layout
from proxconnect.training.study.ledger import Entry
from proxconnect.training.study.rows import Labels

FIGURES = ("accuracy.reestimated", "accuracy.hard", "accuracy.soft", "seconds", "packed_bytes")
"""The measured numbers of a frame."""

REESTIMATED = FIGURES[0]
"""The accuracy that is compared: that of the hard network, batch norm re-estimated."""


def frame(entries: Sequence[Entry], layout: Layout | None = None) -> DataFrame:
    """Return a line for each entry: its labels, also for the seed and the axes of `layout`, its numbers, its curve."""
    layout = layout or Layout()
    needed = ("seed", layout.lines, *layout.columns)
    names = dict.fromkeys([*(axis for entry in entries for axis in entry.labels), *needed])
    labels = DataFrame([{name: entry.labels.get(name, "") for name in names} for entry in entries], columns=[*names])
    numbers = DataFrame({name: [entry.figure(name) for entry in entries] for name in FIGURES}, dtype=float)
    return labels.join(numbers).assign(curve=[entry.measured.get("curve") or [] for entry in entries])


def axes(rows: DataFrame, *apart: str) -> list[str]:
    """Return the axes of a frame but `apart`."""
    return [name for name in rows.columns if name not in OTHER_COLUMNS and name not in apart]


def settings(rows: DataFrame, *apart: str) -> list[Labels]:
    """Return the labels of each line but for the seed and the axes `apart`."""
    names = axes(rows, "seed", *apart)
    return [{name: label for name, label in zip(names, line, strict=True) if label} for line in rows[names].to_numpy()]


def spreads(rows: DataFrame, figure: str, less: str | None = None) -> DataFrame:
    """Return `seeds`, `mean` and `sd` (NaN of one seed) of a number, or of it less another, for each setting."""
    if less is not None:
        rows = rows.assign(**{figure: rows[figure] - rows[less]})
    setting = axes(rows, "seed")
    groups = rows.dropna(subset=figure).groupby(setting or (lambda _: ""), sort=False)[figure]
    found = groups.agg(
        seeds="count", mean=statistics.fmean, sd=lambda v: statistics.stdev(v) if len(v) > 1 else math.nan
    )
    return found.reset_index()[[*setting, "seeds", "mean", "sd"]]


def mean_intervals(cells: DataFrame) -> DataFrame:
    """Add `low` and `high`, the interval of each mean by Student's t at 95 %, NaN of one seed."""
    half = quantile(cells["seeds"] - 1) * cells["sd"] / cells["seeds"] ** 0.5
    return cells.assign(low=cells["mean"] - half, high=cells["mean"] + half)


def next_interval(cell: "pandas.Series[float]", cells: DataFrame) -> tuple[float, float]:
    """Return the interval of one more value of a setting at 95 %, by Student's t: mean ± t·sd·√(1 + 1/n).

    The sd is pooled over all `cells`: √(Σ (n - 1)·sd² / Σ (n - 1)). NaN if none has two seeds.
    """
    freedom = (cells["seeds"] - 1).sum()
    pooled = (((cells["seeds"] - 1) * cells["sd"] ** 2).sum() / freedom) ** 0.5 if freedom else math.nan
    half = quantile(freedom) * pooled * math.sqrt(1 + 1 / cell["seeds"])
    return cell["mean"] - half, cell["mean"] + half


def differences(rows: DataFrame, axis: str, one: str, other: str, figure: str = REESTIMATED) -> DataFrame:
    """Return how much `one` exceeds `other` on `axis` in each setting, by the seeds that both have.

    The columns are `axis`, `one`, `other`, the setting, `seeds`, `mean`, `sd`, and the interval `low` and `high`.
    """
    rows = rows.dropna(subset=figure)
    places, side = axes(rows, axis), rows[axis]
    paired = rows.loc[side.isin((one, other)), places].drop_duplicates()
    for label in (one, other):
        paired = paired.merge(rows.loc[side == label, [*places, figure]], on=places, suffixes=("", " less"))
    paired[figure] -= paired.pop(f"{figure} less")
    found = mean_intervals(spreads(paired, figure))
    return DataFrame({"axis": axis, "one": one, "other": other}, index=found.index).join(found)


def quantile(freedom: int) -> float:
    """Return the quantile of Student's t that is exceeded on either side with 5 % in all; NaN for freedom 0."""
    result: float = extras.require("scipy.stats", "train").t.ppf(0.975, freedom)
    return result
