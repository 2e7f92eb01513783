"""Results of a ledger: tables as Markdown, CSV and on a terminal, pictures, and plain data for --json."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas
from pandas import DataFrame, Series
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from proxconnect._support.atomic import replacing
from proxconnect.inspection import plots
from proxconnect.training.study import tables
from proxconnect.training.study.grid import Grid, TableLayout
from proxconnect.training.study.grid_rows import rows_of
from proxconnect.training.study.ledger import Entry
from proxconnect.training.study.ranks import Ranking, ranking, ranking_table
from proxconnect.training.study.rows import described
from proxconnect.training.study.tables import REESTIMATED, Table, axes, differences, frame, settings, spreads

if TYPE_CHECKING:
    from matplotlib.figure import Figure


MOST_LINES = 6
"""The most lines of a table of comparisons that are printed even if their interval holds 0."""


def comparisons(rows: DataFrame, grid: Grid) -> list[DataFrame]:
    """Return the `differences` of each comparison of `grid` that has rows to compare."""
    found = [differences(rows, axis, *couple) for axis, couples in grid.compare.items() if axis in rows
             for couple in couples]  # fmt: skip
    return [group for group in found if len(group)]


def rankings(rows: DataFrame, grid: Grid) -> list[Ranking]:
    """Return the `ranking` of each group of labels in `ranks` of `grid` that has a setting with all of them."""
    found = [ranking(rows, axis, group) for axis, groups in grid.ranks.items() if axis in rows for group in groups]
    return [one for one in found if one is not None]


def cells(rows: DataFrame) -> DataFrame:
    """Return the `spreads` of all `tables.QUANTITIES`, unrounded, in one frame.

    The column "figure" names the quantity, as "accuracy.hard" or "accuracy.soft - accuracy.reestimated".
    """
    found = [spreads(rows, q.figure, q.less).assign(figure=" - ".join(filter(None, (q.figure, q.less))))
             for q in tables.QUANTITIES]  # fmt: skip
    whole = pandas.concat([part for part in found if len(part)] or found[:1])
    return whole[[*axes(whole), "figure", "seeds", "mean", "sd"]]


def write(entries: Sequence[Entry], grid: Grid, folder: Path) -> list[Path]:
    """Write tables.md, cells.csv, figures/*.png and, if not empty, differences.csv into `folder`; return the paths."""
    whole = frame(entries, grid.layout)
    rows, layout = tables.telling(whole, grid.layout), grid.layout
    compared = comparisons(rows, grid)
    found = tables.by_setting(rows, layout)
    found += tables.by_setting(tables.less_float(rows, layout), layout, tables.AGAINST_FLOAT)
    found += [table for quantity in tables.QUANTITIES[1:] for table in tables.by_setting(rows, layout, quantity)]
    found += tables.difference_tables(compared)
    found += map(ranking_table, rankings(rows, grid))
    texts = {
        "tables.md": "\n".join([*map(tables.markdown, found), *outdated(entries, grid), _versions(entries)]) + "\n",
        "cells.csv": _csv(cells(whole)),
    }
    if compared:
        columns = pandas.concat(compared)
        columns = columns[["axis", "one", "other", *axes(columns), "seeds", "mean", "low", "high"]]
        texts["differences.csv"] = _csv(columns)
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [*(folder / name for name in texts), *_draw(rows, compared, layout, folder)]


def _csv(lines: DataFrame) -> str:
    """Return CSV without the axes on which no line has a label."""
    labels = lines[axes(lines)].fillna("")
    text: str = lines.drop(columns=labels.columns[~labels.any()]).to_csv(index=False, lineterminator="\n")
    return text


def _draw(rows: DataFrame, compared: Sequence[DataFrame], layout: TableLayout, folder: Path) -> list[Path]:
    figures = {f"accuracies {part}": figure for part, figure in draw_accuracies(rows, layout).items()}
    if compared:
        figures["differences"] = draw_differences(compared)
    figures |= {f"curves {panel}": figure for panel, figure in draw_curves(rows, layout).items()}
    paths = []
    for name, figure in figures.items():
        plain = "".join(c if c.isalnum() or c in "+._" else " " for c in name)
        paths.append(folder / "figures" / f"{'-'.join(plain.split())}.png")
        paths[-1].parent.mkdir(exist_ok=True)
        plots.save(figure, paths[-1])
    return paths


def _versions(entries: Sequence[Entry]) -> str:
    """Return a sentence with the versions of all entries, or with the names of those that differ."""
    names = sorted({name for entry in entries for name in entry.versions})
    values = {name: {str(entry.versions.get(name)) for entry in entries} for name in names}
    among = ", ".join(name for name in names if len(values[name]) > 1)
    if among:
        return f"{len(entries)} rows, computed with several of these: {among} (each line of the ledger says)."
    return f"{len(entries)} rows, computed with {', '.join(f'{name} {values[name].pop()}' for name in names)}."


def outdated(entries: Sequence[Entry], grid: Grid) -> list[str]:
    """Return a list of at most one sentence, on entries with the labels of a row of `grid` but another address."""
    keys = {frozenset(row.labels.items()): row.key for row in rows_of(grid)}
    others = [e for e in entries if keys.get(frozenset(e.labels.items()), e.key) != e.key]
    if not others:
        return []
    return [f"{len(others)} rows are of other settings, or an older version, than {grid.path.name} now has, as "
            f"{described(others[0].labels)}: run the grid."]  # fmt: skip


def figures(entries: Sequence[Entry], grid: Grid) -> dict[str, Any]:
    """Return the results as `study --json` prints them: "cells", "differences", "ranks" and "notes" (`outdated`).

    Cells are dicts of setting (labels by axis), figure, seeds, mean and sd. Differences are dicts of axis, one, other,
    setting, seeds, mean and interval (None for one seed). Ranks are dicts of axis, settings (their number), means by
    label, critical_difference and p_value.
    """
    whole = frame(entries, grid.layout)
    return {
        "cells": _records(cells(whole), ["figure", "seeds", "mean", "sd"]),
        "differences": [
            {name: found[name] for name in ("axis", "one", "other", "setting", "seeds", "mean")}
            | {"interval": None if found["seeds"] == 1 else (found["low"], found["high"])}
            for group in comparisons(tables.telling(whole, grid.layout), grid)
            for found in _records(group, ["axis", "one", "other", "seeds", "mean", "low", "high"])
        ],
        "ranks": [
            vars(found) | {"critical_difference": found.critical_difference, "p_value": found.p_value}
            for found in rankings(tables.telling(whole, grid.layout), grid)
        ],
        "notes": outdated(entries, grid),
    }


def _records(lines: DataFrame, names: list[str]) -> list[dict[str, Any]]:
    return [{"setting": setting} | record for setting, record in
            zip(settings(lines), lines[names].to_dict("records"), strict=True)]  # fmt: skip


def show(entries: Sequence[Entry], grid: Grid, console: Console) -> None:
    """Print the tables of re-estimated accuracies and of comparisons, and what `outdated` returns, on `console`.

    Of many comparisons it prints those whose interval excludes 0.
    """
    rows = tables.telling(frame(entries, grid.layout), grid.layout)
    compared = tables.difference_tables(comparisons(rows, grid))
    found = [*tables.by_setting(rows, grid.layout), *map(shortened, compared)]
    for table in [*found, *map(ranking_table, rankings(rows, grid))]:
        for part in parts(table, console.width - 1):
            console.print(part.title, style="bold", markup=False, highlight=False)
            if part.lines:
                console.print(on_terminal(part), highlight=False)
            for note in part.notes:
                console.print(note, markup=False, highlight=False)
            console.print()
    for note in outdated(entries, grid):
        console.print(note, markup=False, highlight=False)


def shortened(compared: Table) -> Table:
    """Return one of `difference_tables`; if it has more than `MOST_LINES`, those alone whose interval excludes 0."""
    sure = tuple(line for line in compared.lines if line[-2])
    left_out = len(compared.lines) - len(sure)
    if len(compared.lines) <= MOST_LINES or not left_out:
        return compared
    return replace(
        compared, lines=sure, notes=(*compared.notes, f"The intervals of {left_out} more hold 0: see tables.md.")
    )


def parts(table: Table, width: int) -> list[Table]:
    """Split a table by columns into tables of at most `width` characters, if each column allows that.

    Each begins with the first column, and lacks lines whose other cells are all "-". The last has the notes.
    """
    first, *widths = (max(map(len, column)) + 2 for column in zip(table.heads, *table.lines, strict=True))
    groups: list[list[int]] = [[]]
    for index, wide in enumerate(widths, 1):
        if groups[-1] and first + sum(widths[i - 1] for i in groups[-1]) + wide > width:
            groups.append([])
        groups[-1].append(index)
    found = [
        Table(
            table.title,
            (table.heads[0], *(table.heads[i] for i in group)),
            tuple((line[0], *(line[i] for i in group)) for line in table.lines if {line[i] for i in group} != {"-"}),
        )
        for group in groups
    ]
    return [*found[:-1], replace(found[-1], notes=table.notes)]


def on_terminal(table: Table, left: int = 1) -> RichTable:
    """Return the heads and lines of the table for `rich`, with all but the first `left` columns right-aligned."""
    result = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    for i, head in enumerate(table.heads):
        result.add_column(head, justify="left" if i < left else "right")
    for line in table.lines:
        result.add_row(*map(Text, line))
    return result


def draw_accuracies(rows: DataFrame, layout: TableLayout) -> dict[str, "Figure"]:
    """Draw the re-estimated accuracies of each table of `layout` with binary networks; return the figures by title.

    The title is the labels outside `layout` in words. A figure has a panel for each column of its table, and shows
    float networks, if there are any, as a band.
    """
    panels: dict[str, dict[str, dict[str, list[float]]]] = {}
    floats: dict[str, list[float]] = {}
    rows = rows.dropna(subset=REESTIMATED)
    parts = map(described, settings(rows, layout.lines, *layout.columns))
    for part, labels, value in zip(parts, settings(rows), rows[REESTIMATED], strict=True):
        if labels.get("mode") == tables.FLOAT:
            floats.setdefault(part, []).append(value)
        else:
            panel = panels.setdefault(part, {}).setdefault(tables.column_of(labels, layout), {})
            panel.setdefault(labels.get(layout.lines, ""), []).append(value)
    return {part: plots.plot_accuracies(found, floats.get(part, []), part) for part, found in panels.items()}


def draw_curves(rows: DataFrame, layout: TableLayout) -> dict[str, "Figure"]:
    """Draw loss and accuracy over epochs; return the figures by title.

    The title is the labels on all axes but `layout.lines` and the seed, in words. A figure has the curves of binary
    networks by their label on `layout.lines`, and of the float ones of the same table.
    """
    parts, panels = (
        Series([*map(described, settings(rows, *apart))], rows.index, dtype=object)
        for apart in ((layout.lines, *layout.columns), (layout.lines,))
    )
    floats, binary = rows[tables.is_float(rows)], rows[~tables.is_float(rows) & rows["curve"].astype(bool)]
    figures = {}
    for panel, members in binary.groupby(panels[binary.index], sort=False):
        shown = [floats[parts[floats.index] == parts[members.index[0]]], members]
        losses, shares = (_courses(shown, name, layout.lines) for name in ("loss", "accuracy"))
        figures[panel] = plots.plot_curves(losses, shares, panel)
    return figures


def draw_differences(found: Sequence[DataFrame]) -> "Figure":
    """Draw a forest plot with a panel for each comparison, the result of `differences`; ValueError without one."""
    panels = {}
    for group in found:
        numbers = zip(map(described, settings(group)), group["mean"], group["low"], group["high"], strict=True)
        panels[f"{group['one'].iloc[0]} against {group['other'].iloc[0]}"] = {
            name: (mean, None if math.isnan(low) else (low, high)) for name, mean, low, high in numbers
        }
    return plots.plot_differences(panels)


def _courses(rows: Sequence[DataFrame], name: str, lines: str) -> dict[str, list[list[float]]]:
    """Return, by label on the axis `lines`, the number `name` of each run over epochs, up to the first None."""
    courses: dict[str, list[list[float]]] = {}
    for line, curve in (pair for part in rows for pair in zip(part[lines], part["curve"], strict=True)):
        course = takewhile(lambda number: number is not None, (epoch.get(name) for epoch in curve))
        courses.setdefault(line, []).append([*course])
    return courses
