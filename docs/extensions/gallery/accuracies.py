"""What the study of record measured of a pair, by the study's own code."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from proxconnect.training.study.grid import Grid
from proxconnect.training.study.ledger import Entry, read
from proxconnect.training.study.report import comparisons
from proxconnect.training.study.statistics import Spread, cells, mean_interval
from proxconnect.training.study.tables import REESTIMATED, Table, difference_table, less_float, telling

STUDY = Path(__file__).parents[3] / "studies" / "fashion-mnist"

AXES = {"model": "network", "mode": "mode", "start": "start", "rule": "rule"}
"""The axes of the study that tell settings of one pair apart, and the heads of their columns."""


@cache
def study() -> tuple[Grid, Sequence[Entry]]:
    """The grid, which says what is compared, and the ledger."""
    grid = Grid.read(STUDY / "core.yaml")
    return grid, telling(read(STUDY / "ledger.jsonl"), grid.layout)


def spreads(entries: Sequence[Entry], pair: str) -> dict[tuple[str, ...], Spread]:
    """By network, mode, start and rule, the accuracies of a pair; they are in [0, 1]."""
    found = {}
    for key, values in cells(entries, REESTIMATED.figure).items():
        labels = dict(key)
        if labels["pair"] == pair:
            found[tuple(labels[axis] for axis in AXES)] = Spread.of(values)
    return found


def table(pair: str) -> Table | None:
    """A line for each setting in which the pair was trained; None where it was in none."""
    grid, entries = study()
    against = spreads(less_float(entries, grid.layout), pair)
    lines = [
        (*setting, REESTIMATED.write(spread, 2), _interval(spread), _against(against.get(setting)), str(spread.count))
        for setting, spread in spreads(entries, pair).items()
    ]
    heads = (*AXES.values(), "accuracy, %", "95 % interval", "less float", "seeds")
    return Table(REESTIMATED.title, heads, tuple(lines)) if lines else None


def _interval(spread: Spread) -> str:
    interval = mean_interval(spread)
    return "-" if interval is None else " to ".join(f"{100 * end:.2f}" for end in interval)


def _against(spread: Spread | None) -> str:
    return "-" if spread is None else REESTIMATED.write(spread, 2)


def compared(pair: str) -> list[Table]:
    """The paired differences from other pairs."""
    grid, entries = study()
    groups = comparisons(entries, grid.compare)
    return [difference_table(group) for group in groups if pair in (group[0].one, group[0].other)]
