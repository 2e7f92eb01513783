"""What the study of record measured of a pair, by the study's own code."""

import math
from functools import cache
from pathlib import Path
from typing import Any

from pandas import DataFrame

from proxconnect.training.study import tables
from proxconnect.training.study.grid import Grid
from proxconnect.training.study.ledger import read
from proxconnect.training.study.results import comparisons
from proxconnect.training.study.tables import (
    ACCURACY,
    REESTIMATED,
    Table,
    difference_table,
    frame,
    less_float,
    mean_intervals,
    percent,
    telling,
)

STUDY = Path(__file__).parents[3] / "studies" / "fashion-mnist"

AXES = {"model": "network", "mode": "mode", "start": "start", "rule": "rule"}
"""The axes of the study that tell settings of one pair apart, and the heads of their columns."""


@cache
def study() -> tuple[Grid, DataFrame]:
    """The grid, which says what is compared, and the ledger."""
    grid = Grid.read(STUDY / "core.yaml")
    return grid, telling(frame(read(STUDY / "ledger.jsonl"), grid.layout), grid.layout)


@cache
def _cells() -> DataFrame:
    """The accuracies of all settings, over seeds."""
    _, rows = study()
    return mean_intervals(tables.spreads(rows, REESTIMATED))


@cache
def _cells_less_float() -> DataFrame:
    """The same, less the accuracy of the float network of the same seed."""
    grid, rows = study()
    return mean_intervals(tables.spreads(less_float(rows, grid.layout), REESTIMATED))


@cache
def _comparisons() -> list[DataFrame]:
    """The paired differences of all pairs that the grid compares."""
    grid, rows = study()
    return comparisons(rows, grid)


def label(pair: str) -> str:
    """Return the label of a pair in the study, which is "bnn+ moved" for bnn+: its fixed μ moved in all rows."""
    moved = f"{pair} moved"
    return moved if moved in set(study()[1]["pair"]) else pair


def _of(pair: str, cells: DataFrame) -> dict[tuple[str, ...], Any]:
    """Return the lines of a pair by network, mode, start and rule."""
    found = cells[cells["pair"] == label(pair)].itertuples()
    return {tuple(getattr(cell, axis) for axis in AXES): cell for cell in found}


def spreads(pair: str) -> dict[tuple[str, ...], Any]:
    """By network, mode, start and rule, the accuracies of a pair: seeds, mean, sd, low, high; they are in [0, 1]."""
    return _of(pair, _cells())


def table(pair: str) -> Table | None:
    """A line for each setting in which the pair was trained; None where it was in none."""
    against = _of(pair, _cells_less_float())
    lines = [
        (*setting, percent(cell.mean, cell.sd, 2), _interval(cell), _against(against.get(setting)), str(cell.seeds))
        for setting, cell in spreads(pair).items()
    ]
    heads = (*AXES.values(), "accuracy, %", "95 % interval", "less float", "seeds")
    return Table(ACCURACY.title, heads, tuple(lines)) if lines else None


def _interval(cell: Any) -> str:
    return "-" if math.isnan(cell.low) else f"{100 * cell.low:.2f} to {100 * cell.high:.2f}"


def _against(cell: Any) -> str:
    return "-" if cell is None else percent(cell.mean, cell.sd, 2)


def compared(pair: str) -> list[Table]:
    """The paired differences from other pairs."""
    return [
        difference_table(group)
        for group in _comparisons()
        if label(pair) in (group["one"].iloc[0], group["other"].iloc[0])
    ]
