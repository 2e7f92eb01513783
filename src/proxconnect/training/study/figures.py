"""What a study found as plain data: unrounded, accuracies in [0, 1], seconds, bytes."""

from collections.abc import Sequence
from typing import Any

from proxconnect.training.study.grid import Grid
from proxconnect.training.study.ledger import Entry
from proxconnect.training.study.report import comparisons, outdated
from proxconnect.training.study.rows import Row
from proxconnect.training.study.statistics import Difference, Spread
from proxconnect.training.study.tables import QUANTITIES, telling


def figures(entries: Sequence[Entry], grid: Grid) -> dict[str, Any]:
    """Each setting's measured numbers, each comparison's differences, and notes on both."""
    compared = comparisons(telling(entries, grid.layout), grid.compare)
    cells = [
        {"setting": dict(key), "figure": quantity.name, "seeds": len(values), **_mean_and_sd(Spread.of(values))}
        for quantity in QUANTITIES
        for key, values in quantity.cells(entries).items()
    ]
    differences = [_difference(difference) for group in compared for difference in group]
    return {"cells": cells, "differences": differences, "notes": outdated(entries, grid)}


def record(row: Row) -> dict[str, Any]:
    """What tells the row from others."""
    return {"key": row.key, "row": str(row), "labels": row.labels}


def _mean_and_sd(spread: Spread) -> dict[str, float | None]:
    return {"mean": spread.mean, "sd": spread.sd}


def _difference(difference: Difference) -> dict[str, Any]:
    return {
        "axis": difference.axis,
        "one": difference.one,
        "other": difference.other,
        "setting": dict(difference.setting),
        "seeds": difference.count,
        "mean": difference.mean,
        "interval": difference.interval,
    }
