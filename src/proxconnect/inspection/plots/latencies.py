"""Pictures of latencies: networks and their binary layers, float beside packed."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from proxconnect._support.text import shortened
from proxconnect.inspection.plots.figures import SHADES, bare, new_figure, require_some

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FLOAT, _PACKED, _OTHER = "#969696", SHADES["F"][1], "#d9d9d9"

Quartiles = tuple[float, float, float]
"""The lower quartile, the median and the upper quartile."""


def plot_latencies(
    networks: Mapping[str, Quartiles], layers: Mapping[str, tuple[float, float]], title: str = ""
) -> "Figure":
    """Draw the latency of whole networks, and below it that of their binary layers, as bars in the given order.

    Args:
        networks: quartiles in seconds by name, drawn as a bar up to the median with a whisker between the outer two.
            Names that start with "packed" or "float" have colours for these.
        layers: seconds by name of the layer, (of the float layer, of the packed layer); may be empty.
        title: the title of the figure.

    Raises:
        ValueError: there is no network.
    """
    require_some(networks, "networks")
    height = 1.6 + 0.3 * len(networks) + 0.27 * len(layers)
    figure = new_figure(8.0, max(3.2, height))
    figure.suptitle(title, fontsize=11)
    above, below = figure.subplots(2, 1, height_ratios=(0.8 + len(networks), 0.8 + max(1, len(layers))))
    _draw_networks(above, networks, "the whole network, ms")
    for side, (name, colour) in enumerate((("float", _FLOAT), ("packed", _PACKED))):
        places = [place + 0.38 * (side - 0.5) for place in range(len(layers))]
        below.barh(places, [1e3 * times[side] for times in layers.values()], color=colour, height=0.38, label=name)
    for place, (before, after) in enumerate(layers.values()):
        below.annotate(
            f"{before / after:.2g}x" if after else "", (1e3 * max(before, after), place), xytext=(4, 0),
            textcoords="offset points", va="center", fontsize=7.5, color="#525252",
        )  # fmt: skip
    below.set_yticks(range(len(layers)), [shortened(name, 40) for name in layers])
    below.set_title("its binary layers, each by itself, ms; how many times as fast", fontsize=10, loc="left")
    if layers:
        below.set_ylim(-0.6, len(layers) - 0.4)
        below.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, ncols=2)
    for axes in (above, below):
        _tidy(axes)
    return figure


def plot_contests(contests: Mapping[str, Mapping[str, Quartiles]]) -> "Figure":
    """Draw the latency of the networks of each contest in a panel, as `plot_latencies` does.

    `contests` has by title of the panel the quartiles of its networks, in seconds by name. ValueError without a
    contest.
    """
    require_some(contests, "contests")
    rows = [0.8 + len(networks) for networks in contests.values()]
    figure = new_figure(8.0, 0.5 + 0.3 * sum(rows))
    panels = figure.subplots(len(contests), 1, height_ratios=rows, squeeze=False)[:, 0]
    for axes, (title, networks) in zip(panels, contests.items(), strict=True):
        _draw_networks(axes, networks, f"{title}, ms")
        _tidy(axes)
    return figure


def _draw_networks(axes: "Axes", networks: Mapping[str, Quartiles], title: str) -> None:
    for place, (name, (low, median, high)) in enumerate(networks.items()):
        colour = _FLOAT if name.startswith("float") else _PACKED if name.startswith("packed") else _OTHER
        axes.barh(place, 1e3 * median, color=colour, height=0.7, label=name)
        axes.plot([1e3 * low, 1e3 * high], [place, place], color="#252525", linewidth=1.0)
        axes.annotate(
            f"{1e3 * median:.3g}", (1e3 * max(median, high), place), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=8,
        )  # fmt: skip
    axes.set_yticks(range(len(networks)), list(networks))
    axes.set_title(title, fontsize=10, loc="left")


def _tidy(axes: "Axes") -> None:
    """Put the first bar at the top, and hide the frame at the top and the right."""
    axes.margins(x=0.08)
    axes.invert_yaxis()
    bare(axes)
    axes.tick_params(axis="y", length=0, labelsize=8)
