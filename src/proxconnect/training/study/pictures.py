"""The pictures of a ledger, drawn by `proxconnect.inspection.plots`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from proxconnect.inspection import plots
from proxconnect.training.study.grid import Layout
from proxconnect.training.study.ledger import Entry
from proxconnect.training.study.rows import described
from proxconnect.training.study.statistics import Difference, setting_of
from proxconnect.training.study.tables import REESTIMATED, column_of, is_float, part_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def accuracies(entries: Sequence[Entry], layout: Layout) -> dict[str, "Figure"]:
    """By setting of the axes beside those of the layout, a panel for each column; the float rows are a band."""
    panels: dict[str, dict[str, dict[str, list[float]]]] = {}
    floats: dict[str, list[float]] = {}
    for entry in entries:
        value, part = entry.figure(REESTIMATED.figure), described(part_of(entry, layout))
        if value is None:
            continue
        if is_float(entry):
            floats.setdefault(part, []).append(value)
        else:
            panel = panels.setdefault(part, {}).setdefault(column_of(entry.labels, layout), {})
            panel.setdefault(entry.labels.get(layout.lines, ""), []).append(value)
    return {part: plots.plot_accuracies(found, floats.get(part, []), part) for part, found in panels.items()}


def curves(entries: Sequence[Entry], layout: Layout) -> dict[str, "Figure"]:
    """By setting of all axes but that of the lines, loss and accuracy over epochs, with those of the float rows."""
    by_setting: dict[str, list[Entry]] = {}
    for entry in entries:
        if not is_float(entry) and entry.measured.get("curve"):
            by_setting.setdefault(described(setting_of(entry.labels, layout.lines)), []).append(entry)
    figures = {}
    for setting, members in by_setting.items():
        part = part_of(members[0], layout)
        shown = [e for e in entries if is_float(e) and part_of(e, layout) == part] + members
        losses, shares = (_courses(shown, name, layout.lines) for name in ("loss", "accuracy"))
        figures[setting] = plots.plot_curves(losses, shares, setting)
    return figures


def differences(found: Sequence[Sequence[Difference]]) -> "Figure":
    """The forest of several comparisons."""
    panels = {
        f"{group[0].one} against {group[0].other}": {described(d.setting): (d.mean, d.interval) for d in group}
        for group in found
    }
    return plots.plot_differences(panels)


def _courses(entries: Sequence[Entry], name: str, lines: str) -> dict[str, list[list[float]]]:
    """By label of the lines, the runs' numbers of that name over epochs, as far as each is finite."""
    courses: dict[str, list[list[float]]] = {}
    for entry in entries:
        course = [epoch.get(name) for epoch in entry.measured.get("curve", [])]
        if None in course:
            course = course[: course.index(None)]
        courses.setdefault(entry.labels.get(lines, ""), []).append(course)
    return courses
