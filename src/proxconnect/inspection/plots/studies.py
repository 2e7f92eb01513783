"""Pictures of studies: accuracies of pairs with their spread, and paired differences with intervals."""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from proxconnect.inspection.plots.figures import PAIR_COLOURS, bare, new_figure, require_some

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TITLE_LINES = 3
"""Height of the title and the axis of a panel, in lines."""
_SURE, _UNSURE = "#252525", "#969696"


def plot_accuracies(
    panels: Mapping[str, Mapping[str, Sequence[float]]], floats: Sequence[float] = (), title: str = ""
) -> "Figure":
    """Draw accuracies in [0, 1] by panel and pair: a point for each seed, and mean ± sd.

    `floats` are accuracies of float networks, drawn as a band in each panel. ValueError without a panel.
    """
    require_some(panels, "panels")
    heights = {panel: len(values) + _TITLE_LINES for panel, values in panels.items()}
    columns = _in_columns(heights, min(2, len(panels)))
    highest = max(sum(heights[panel] for panel in column) for column in columns)
    figure = new_figure(0.5 + 4.2 * len(columns), 0.8 + 0.23 * highest)
    figure.suptitle(title, fontsize=11)
    for part, column in zip(figure.subfigures(1, len(columns), squeeze=False)[0], columns, strict=True):
        rest = highest - sum(heights[panel] for panel in column)
        lines = [heights[panel] for panel in column] + [rest] * (rest > 0)
        places = part.subplots(len(lines), 1, height_ratios=lines, squeeze=False)[:, 0]
        for axes, panel in zip(places, column, strict=False):
            _draw_spreads(axes, panels[panel])
            if floats:
                mean, sd = _mean_and_sd([100 * accuracy for accuracy in floats])
                axes.axvspan(mean - sd, mean + sd, color="#e4e4e4", zorder=-1, linewidth=0)
                axes.axvline(mean, color=PAIR_COLOURS["fp"], linewidth=0.9, zorder=0.6)
            axes.set_title(panel, fontsize=10, loc="left")
        for axes in places[len(column) :]:
            axes.set_axis_off()
    figure.supxlabel("accuracy of the hard network, %: each seed, mean ± sd; grey: the float network", fontsize=9)
    return figure


def _in_columns(heights: Mapping[str, float], count: int) -> list[list[str]]:
    """Divide the names, in their order, into columns of about the same height."""
    columns: list[list[str]] = [[]]
    share = sum(heights.values()) / count
    for name in heights:
        if sum(heights[held] for held in columns[-1]) + heights[name] / 2 > share and len(columns) < count:
            columns.append([])
        columns[-1].append(name)
    return columns


def _draw_spreads(axes: "Axes", values: Mapping[str, Sequence[float]]) -> None:
    for place, (name, accuracies) in enumerate(values.items()):
        colour = PAIR_COLOURS.get(name, "#444444")
        percent = [100 * accuracy for accuracy in accuracies]
        mean, sd = _mean_and_sd(percent)
        axes.plot(percent, [place + 0.22] * len(percent), ".", color=colour, markersize=4, alpha=0.6)
        axes.errorbar(mean, place, xerr=sd, fmt="o", color=colour, markersize=5, capsize=3, linewidth=1.3)
    axes.set_yticks(range(len(values)), list(values))
    axes.set_ylim(len(values) - 0.4, -0.6)
    _tidy(axes)


def _mean_and_sd(values: Sequence[float]) -> tuple[float, float]:
    return fmean(values), stdev(values) if len(values) > 1 else 0.0


def plot_differences(
    panels: Mapping[str, Mapping[str, tuple[float, tuple[float, float] | None]]],
) -> "Figure":
    """Draw a forest plot by panel ("bnn++ against bnn+") and setting: mean differences in [-1, 1], 95 % intervals.

    A line is dark if its interval excludes 0. ValueError without a panel.
    """
    require_some(panels, "panels")
    lines = [0.8 + len(settings) for settings in panels.values()]
    figure = new_figure(7.2, 0.6 + 0.28 * sum(lines))
    for axes, (panel, settings) in zip(
        figure.subplots(len(panels), 1, height_ratios=lines, squeeze=False)[:, 0], panels.items(), strict=True
    ):
        for place, (mean, interval) in enumerate(settings.values()):
            low, high = interval or (mean, mean)
            is_sure = interval is not None and (low > 0 or high < 0)
            colour = _SURE if is_sure else _UNSURE
            axes.plot([100 * low, 100 * high], [place, place], color=colour, linewidth=1.6)
            axes.plot(100 * mean, place, "o" if interval else "x", color=colour, markersize=5)
        axes.axvline(0.0, color="#777777", linewidth=0.8, zorder=0.6)
        axes.set_yticks(range(len(settings)), list(settings))
        axes.set_ylim(len(settings) - 0.4, -0.6)
        axes.set_title(panel, fontsize=10, loc="left")
        _tidy(axes)
    figure.supxlabel("points of accuracy, mean over seeds and 95 % interval; x: one seed", fontsize=9)
    return figure


def _tidy(axes: "Axes") -> None:
    bare(axes)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(labelsize=8)
    axes.margins(x=0.08)
