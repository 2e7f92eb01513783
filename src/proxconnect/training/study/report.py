"""What is made of a ledger: tables in Markdown and CSV, pictures, and tables for a terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from proxconnect._support.atomic import replacing
from proxconnect.inspection import plots
from proxconnect.training.study import pictures
from proxconnect.training.study.grid import Grid, Layout
from proxconnect.training.study.ledger import Entry
from proxconnect.training.study.rows import described, rows_of
from proxconnect.training.study.statistics import Difference, differences
from proxconnect.training.study.tables import (
    AGAINST_FLOAT,
    QUANTITIES,
    REESTIMATED,
    Table,
    cells_csv,
    difference_table,
    differences_csv,
    less_float,
    markdown,
    parts,
    tables,
    telling,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

Compare = Mapping[str, Sequence[tuple[str, str]]]
"""By axis, labels of which the first is held against the second."""


def comparisons(entries: Sequence[Entry], compare: Compare) -> list[list[Difference]]:
    """The differences of each comparison for which the ledger has rows."""
    found = [differences(entries, axis, one, other, REESTIMATED.figure)
             for axis, couples in compare.items() for one, other in couples]  # fmt: skip
    return [group for group in found if group]


def write(entries: Sequence[Entry], grid: Grid, folder: Path) -> list[Path]:
    """Write tables.md, cells.csv, differences.csv and pictures beside the ledger; the paths."""
    csv, notes = cells_csv(entries), outdated(entries, grid)
    entries = telling(entries, grid.layout)
    compared = comparisons(entries, grid.compare)
    found = [*tables(entries, grid.layout), *tables(less_float(entries, grid.layout), grid.layout, AGAINST_FLOAT)]
    found += [table for quantity in QUANTITIES[1:] for table in tables(entries, grid.layout, quantity)]
    found += [difference_table(group) for group in compared]
    texts = {
        "tables.md": "\n".join([*map(markdown, found), *notes, _versions(entries)]) + "\n",
        "cells.csv": csv,
    }
    if compared:
        texts["differences.csv"] = differences_csv([d for group in compared for d in group])
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [*(folder / name for name in texts), *_draw(entries, compared, grid.layout, folder)]


def _draw(
    entries: Sequence[Entry], compared: Sequence[Sequence[Difference]], layout: Layout, folder: Path
) -> list[Path]:
    figures = {f"accuracies {part}": figure for part, figure in pictures.accuracies(entries, layout).items()}
    if compared:
        figures["differences"] = pictures.differences(compared)
    figures |= {f"curves {setting}": figure for setting, figure in pictures.curves(entries, layout).items()}
    paths = []
    for name, figure in figures.items():
        paths.append(folder / "figures" / f"{_file_name(name)}.png")
        paths[-1].parent.mkdir(exist_ok=True)
        plots.save(figure, paths[-1])
    return paths


def _file_name(name: str) -> str:
    return "-".join("".join(c if c.isalnum() or c in "+._" else " " for c in name).split())


def _versions(entries: Sequence[Entry]) -> str:
    """What the rows were computed with, where it is one; else how many there are."""
    versions = {tuple(sorted((name, str(value)) for name, value in entry.versions.items())) for entry in entries}
    if len(versions) != 1:
        names = {name for one in versions for name, _ in one}
        several = sorted(n for n in names if len({dict(one).get(n) for one in versions}) > 1)
        return (
            f"{len(entries)} rows, computed with several of these: {', '.join(several)} (each line of the ledger says)."
        )
    return f"{len(entries)} rows, computed with {', '.join(f'{n} {v}' for n, v in versions.pop())}."


def show(entries: Sequence[Entry], grid: Grid, console: "Console") -> None:
    """Print the accuracies and the comparisons."""
    notes = outdated(entries, grid)
    entries = telling(entries, grid.layout)
    compared = comparisons(entries, grid.compare)
    whole = [*tables(entries, grid.layout), *map(difference_table, compared)]
    for table in [part for one in whole for part in parts(one, console.width - 1)]:
        console.print(table.title, style="bold", markup=False, highlight=False)
        if table.lines:
            console.print(on_terminal(table), highlight=False)
        for note in table.notes:
            console.print(note, markup=False, highlight=False)
        console.print()
    for note in notes:
        console.print(note, markup=False, highlight=False)


def outdated(entries: Sequence[Entry], grid: Grid) -> list[str]:
    """A sentence where rows have the labels of the grid's, but other settings or an older version of the results."""
    keys = {tuple(sorted(row.labels.items())): row.key for row in rows_of(grid)}
    others = [e for e in entries if keys.get(tuple(sorted(e.labels.items())), e.key) != e.key]
    if not others:
        return []
    return [f"{len(others)} rows are of other settings, or an older version, than {grid.path.name} now has, as "
            f"{described(others[0].labels)}: run the grid."]  # fmt: skip


def on_terminal(table: Table) -> "RichTable":
    """The lines of the table as rich prints them."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    result = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    for i, head in enumerate(table.heads):
        result.add_column(head, justify="left" if i == 0 else "right")
    for line in table.lines:
        result.add_row(*map(Text, line))
    return result
