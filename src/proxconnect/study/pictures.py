"""The pictures of a ledger, drawn by `proxconnect.plots`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from proxconnect import plots
from proxconnect.study.grid import Labels
from proxconnect.study.ledger import Entry
from proxconnect.study.rows import described
from proxconnect.study.statistics import Difference, setting_of
from proxconnect.study.tables import COLUMNS, FLOAT, LINES, REESTIMATED

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def accuracies(entries: Sequence[Entry]) -> "Figure | None":
    """A panel for each setting of all axes but the pair; None without binary rows."""
    panels: dict[str, dict[str, list[float]]] = {}
    floats: dict[str, list[float]] = {}
    for entry in entries:
        value = entry.figure(REESTIMATED.figure)
        if value is None:
            continue
        if _is_float(entry):
            floats.setdefault(_part(entry.labels), []).append(value)
        else:
            panel = panels.setdefault(described(setting_of(entry.labels, LINES)), {})
            panel.setdefault(entry.labels.get(LINES, ""), []).append(value)
    if not panels:
        return None
    parts = {described(setting_of(e.labels, LINES)): _part(e.labels) for e in entries if not _is_float(e)}
    return plots.plot_accuracies(panels, {name: floats[parts[name]] for name in panels if parts[name] in floats})


def curves(entries: Sequence[Entry]) -> dict[str, "Figure"]:
    """By setting of all axes but the pair, loss and accuracy over epochs of its rows, the float ones among them."""
    by_setting: dict[str, list[Entry]] = {}
    for entry in entries:
        if not _is_float(entry):
            by_setting.setdefault(described(setting_of(entry.labels, LINES)), []).append(entry)
    figures = {}
    for setting, members in by_setting.items():
        shown = [e for e in entries if _is_float(e) and _part(e.labels) == _part(members[0].labels)] + members
        figures[setting] = plots.plot_curves(_courses(shown, "loss"), _courses(shown, "accuracy"), setting)
    return figures


def differences(found: Sequence[Sequence[Difference]]) -> "Figure | None":
    """The forest of several comparisons; None of none."""
    panels = {
        f"{group[0].one} against {group[0].other}": {described(d.setting): (d.mean, d.interval) for d in group}
        for group in found
    }
    return plots.plot_differences(panels) if panels else None


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
