"""Means over seeds, and differences paired by seed with their intervals, as data frames."""

import math
import statistics
from collections.abc import Sequence

import pandas
from pandas import DataFrame

from proxconnect._support import extras
from proxconnect.training.study.grid import OTHER_COLUMNS, TableLayout
from proxconnect.training.study.ledger import Entry
from proxconnect.training.study.rows import Labels

FIGURES = ("accuracy.reestimated", "accuracy.hard", "accuracy.soft", "seconds", "packed_bytes")
"""The measured numbers of a frame."""

REESTIMATED = FIGURES[0]
"""The accuracy that is compared: that of the hard network, batch norm re-estimated."""


def frame(entries: Sequence[Entry], layout: TableLayout | None = None) -> DataFrame:
    """Return a data frame with one line for each entry.

    Its columns are the axes (labels, "" for none; "seed" and the axes of `layout` among them), the `FIGURES` (NaN if
    not measured), and "curve" (a list with a dict of numbers for each epoch).
    """
    layout = layout or TableLayout()
    needed = ("seed", layout.lines, *layout.columns)
    names = dict.fromkeys([*(axis for entry in entries for axis in entry.labels), *needed])
    labels = DataFrame([{name: entry.labels.get(name, "") for name in names} for entry in entries], columns=[*names])
    numbers = DataFrame({name: [entry.figure(name) for entry in entries] for name in FIGURES}, dtype=float)
    return labels.join(numbers).assign(curve=[entry.measured.get("curve") or [] for entry in entries])


def axes(rows: DataFrame, *apart: str) -> list[str]:
    """Return the names of the columns of `rows` that hold labels, without those in `apart`."""
    return [name for name in rows.columns if name not in OTHER_COLUMNS and name not in apart]


def settings(rows: DataFrame, *apart: str) -> list[Labels]:
    """Return the labels by axis of each line of `rows`, without empty ones, the seed and the axes in `apart`."""
    names = axes(rows, "seed", *apart)
    return [{name: label for name, label in zip(names, line, strict=True) if label} for line in rows[names].to_numpy()]


def spreads(rows: DataFrame, figure: str, less: str | None = None) -> DataFrame:
    """Return the mean over seeds of the column `figure`, or of `figure` minus the column `less`, for each setting.

    A setting is a combination of labels of all axes except the seed. Its line has these labels and the columns "seeds"
    (their number), "mean" and "sd" (NaN for one seed). Lines of `rows` with NaN do not count.
    """
    if less is not None:
        rows = rows.assign(**{figure: rows[figure] - rows[less]})
    setting = axes(rows, "seed")
    groups = rows.dropna(subset=figure).groupby(setting or (lambda _: ""), sort=False)[figure]
    found = groups.agg(
        seeds="count", mean=statistics.fmean, sd=lambda v: statistics.stdev(v) if len(v) > 1 else math.nan
    )
    return found.reset_index()[[*setting, "seeds", "mean", "sd"]]


def mean_intervals(cells: DataFrame) -> DataFrame:
    """Return `cells`, from `spreads`, with the columns "low" and "high": Student's 95 % interval, NaN for one seed."""
    half = quantile(cells["seeds"] - 1) * cells["sd"] / cells["seeds"] ** 0.5
    return cells.assign(low=cells["mean"] - half, high=cells["mean"] + half)


def next_interval(cell: "pandas.Series[float]", cells: DataFrame) -> tuple[float, float]:
    """Return (low, high), the 95 % prediction interval of one more seed of a setting: mean ± t·sd·√(1 + 1/n).

    `cell` is the setting's line of `spreads`; sd is pooled over the lines `cells`. NaN if none of these has two seeds.
    """
    freedom = (cells["seeds"] - 1).sum()
    pooled = (((cells["seeds"] - 1) * cells["sd"] ** 2).sum() / freedom) ** 0.5 if freedom else math.nan
    half = quantile(freedom) * pooled * math.sqrt(1 + 1 / cell["seeds"])
    return cell["mean"] - half, cell["mean"] + half


def differences(rows: DataFrame, axis: str, one: str, other: str, figure: str = REESTIMATED) -> DataFrame:
    """Return by how much the number `figure` is larger with the label `one` of `axis` than with `other`.

    The lines and columns are those of `mean_intervals`, of the differences between rows with the same seed and the same
    labels on the other axes. The columns "axis", "one" and "other" hold the arguments.
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
    """Return the 97.5 % quantile of Student's t with `freedom` degrees of freedom (or a column of them); NaN for 0."""
    result: float = extras.require("scipy.stats", "train").t.ppf(0.975, freedom)
    return result
