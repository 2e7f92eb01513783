"""The pictures of a frame, drawn by `proxconnect.inspection.plots`."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pandas import DataFrame, Series

from proxconnect.inspection import plots
from proxconnect.training.study.grid import Layout
from proxconnect.training.study.rows import described
from proxconnect.training.study.statistics import REESTIMATED, settings
from proxconnect.training.study.tables import FLOAT, column_of, is_float

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_accuracies(rows: DataFrame, layout: Layout) -> dict[str, "Figure"]:
    """Draw a picture for each table, with a panel for each column and the float networks as a band."""
    panels: dict[str, dict[str, dict[str, list[float]]]] = {}
    floats: dict[str, list[float]] = {}
    rows = rows.dropna(subset=REESTIMATED)
    parts = map(described, settings(rows, layout.lines, *layout.columns))
    for part, labels, value in zip(parts, settings(rows), rows[REESTIMATED], strict=True):
        if labels.get("mode") == FLOAT:
            floats.setdefault(part, []).append(value)
        else:
            panel = panels.setdefault(part, {}).setdefault(column_of(labels, layout), {})
            panel.setdefault(labels.get(layout.lines, ""), []).append(value)
    return {part: plots.plot_accuracies(found, floats.get(part, []), part) for part, found in panels.items()}


def draw_curves(rows: DataFrame, layout: Layout) -> dict[str, "Figure"]:
    """Draw loss and accuracy over epochs for each setting but the lines, with those of the float networks."""
    parts, panels = (
        Series([*map(described, settings(rows, *apart))], rows.index, dtype=object)
        for apart in ((layout.lines, *layout.columns), (layout.lines,))
    )
    floats, binary = rows[is_float(rows)], rows[~is_float(rows) & rows["curve"].astype(bool)]
    figures = {}
    for panel, members in binary.groupby(panels[binary.index], sort=False):
        shown = [floats[parts[floats.index] == parts[members.index[0]]], members]
        losses, shares = (_courses(shown, name, layout.lines) for name in ("loss", "accuracy"))
        figures[panel] = plots.plot_curves(losses, shares, panel)
    return figures


def draw_differences(found: Sequence[DataFrame]) -> "Figure":
    """Draw a forest plot with one panel per comparison.

    Args:
        found: frames from `statistics.differences`, one per comparison.

    Raises:
        ValueError: there is no comparison.
    """
    panels = {}
    for group in found:
        numbers = zip(map(described, settings(group)), group["mean"], group["low"], group["high"], strict=True)
        panels[f"{group['one'].iloc[0]} against {group['other'].iloc[0]}"] = {
            name: (mean, None if math.isnan(low) else (low, high)) for name, mean, low, high in numbers
        }
    return plots.plot_differences(panels)


def _courses(rows: Sequence[DataFrame], name: str, lines: str) -> dict[str, list[list[float]]]:
    """Return by label of the lines the numbers of the runs over epochs, up to the first that is not finite."""
    courses: dict[str, list[list[float]]] = {}
    for line, curve in (pair for part in rows for pair in zip(part[lines], part["curve"], strict=True)):
        course = [epoch.get(name) for epoch in curve]
        courses.setdefault(line, []).append(course[: course.index(None)] if None in course else course)
    return courses
