"""The table of the demo: accuracies by pair, mode and start."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from proxconnect.cli.demo.experiment import Run
from proxconnect.training.study.ledger import Entry

if TYPE_CHECKING:
    from rich.console import Group

COLUMNS = tuple((mode, start) for mode in ("BW", "BWA", "BWAA") for start in ("E2E", "FT"))
"""Mode and start of each column, left out if it has no runs."""


def table(done: Mapping[Run, Entry], pairs: Sequence[str]) -> "Group":
    """Return accuracies with re-estimated batch norm, in the line below without, and those of the float network."""
    from rich import box
    from rich.console import Group
    from rich.table import Table

    seeds = len({run.seed for run in done})
    columns = [column for column in COLUMNS if any((run.mode, run.start) == column for run in done)]
    # One image of a small test set is more than a second decimal, which six columns have no room for.
    decimals = 1 if len(columns) > 4 else 2
    title = f"Test accuracy of the hard network in %, {'1 seed' if seeds == 1 else f'mean ± sd of {seeds} seeds'}"
    result = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    result.add_column("pair", no_wrap=True)
    for mode, start in columns:
        result.add_column(f"{mode} {start}", justify="right", no_wrap=True)
    for pair in pairs:
        cells = []
        for column in columns:
            chosen = [entry for run, entry in done.items() if (run.pair, (run.mode, run.start)) == (pair, column)]
            after, before = (spread(chosen, name, decimals) for name in ("reestimated", "hard"))
            cells.append(f"{after}\n[dim]{before}[/dim]")
        result.add_row(pair, *cells)
    floats = spread([entry for run, entry in done.items() if run.is_float], "reestimated", 2)
    limits = {str(run.accumulator) for run in done if run.accumulator is not None}
    return Group(
        f"Float network (fp): {floats} %",
        result,
        "Upper line: batch norm re-estimated for the hard weights. Lower: before that.",
        "BW: binary weights. BWA: and activations. E2E: from scratch. FT: from fp.",
        *(f"BWAA: BWA with sums held by this accumulator: {limit}." for limit in sorted(limits)),
    )


def spread(entries: Iterable[Entry], name: str, decimals: int) -> str:
    """Return mean ± sample standard deviation of an accuracy in per cent; the mean alone of one run, "-" of none."""
    percent = [100 * (entry.figure(f"accuracy.{name}") or 0.0) for entry in entries]
    if not percent:
        return "-"
    mean = f"{statistics.mean(percent):.{decimals}f}"
    return mean if len(percent) == 1 else f"{mean}±{statistics.stdev(percent):.{decimals}f}"
