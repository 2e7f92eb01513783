"""The pictures of a ledger, drawn by `proxconnect.plots`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from proxconnect import plots
from proxconnect.study.grid import Labels
from proxconnect.study.ledger import Entry
from proxconnect.study.rows import described
from proxconnect.study.statistics import Difference, setting_of
from proxconnect.study.tables import COLUMNS, FLOAT, LINES, REESTIMATED, column_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def accuracies(entries: Sequence[Entry]) -> dict[str, "Figure"]:
    """By setting of the axes beside pair, mode and start, a panel for each mode and start of its binary rows."""
    figures = {}
    for part in dict.fromkeys(_part(entry.labels) for entry in entries if not _is_float(entry)):
        panels: dict[str, dict[str, list[float]]] = {}
        floats: list[float] = []
        for entry in entries:
            value = entry.figure(REESTIMATED.figure)
            if value is None or _part(entry.labels) != part:
                continue
            if _is_float(entry):
                floats.append(value)
            else:
                panel = panels.setdefault(column_of(entry.labels), {})
                panel.setdefault(entry.labels.get(LINES, ""), []).append(value)
        if panels:
            figures[part] = plots.plot_accuracies(panels, floats, part)
    return figures


def curves(entries: Sequence[Entry]) -> dict[str, "Figure"]:
    """By setting of all axes but the pair, loss and accuracy over epochs of its rows, the float ones among them."""
    by_setting: dict[str, list[Entry]] = {}
    for entry in entries:
        if not _is_float(entry) and entry.measured.get("curve"):
            by_setting.setdefault(described(setting_of(entry.labels, LINES)), []).append(entry)
    figures = {}
    for setting, members in by_setting.items():
        shown = [e for e in entries if _is_float(e) and _part(e.labels) == _part(members[0].labels)] + members
        figures[setting] = plots.plot_curves(_courses(shown, "loss"), _courses(shown, "accuracy"), setting)
    return figures


def differences(found: Sequence[Sequence[Difference]]) -> "Figure":
    """The forest of several comparisons."""
    panels = {
        f"{group[0].one} against {group[0].other}": {described(d.setting): (d.mean, d.interval) for d in group}
        for group in found
    }
    return plots.plot_differences(panels)


def _courses(entries: Sequence[Entry], name: str) -> dict[str, list[list[float]]]:
    """By pair, the runs' numbers of that name over epochs, as far as each is finite."""
    courses: dict[str, list[list[float]]] = {}
    for entry in entries:
        course = [epoch.get(name) for epoch in entry.measured.get("curve", [])]
        if None in course:
            course = course[: course.index(None)]
        courses.setdefault(entry.labels.get(LINES, ""), []).append(course)
    return courses


def _is_float(entry: Entry) -> bool:
    return entry.labels.get("mode") == FLOAT


def _part(labels: Labels) -> str:
    """The setting of the axes that a float row has in common with the binary ones."""
    return described(setting_of(labels, LINES, *COLUMNS))
