"""Pictures of measurements: of training runs and studies (courses, bounds, latents, accuracies), and of latencies."""

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from proxconnect._support import extras
from proxconnect._support.text import shortened
from proxconnect.inspection.plots.figures import PAIR_COLOURS, SHADES, bare, new_figure, require_some

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FLOAT, _PACKED, _OTHER = "#969696", SHADES["F"][1], "#d9d9d9"

Quartiles = tuple[float, float, float]
"""The lower quartile, the median and the upper quartile."""


def plot_curves(
    losses: Mapping[str, Sequence[Sequence[float]]],
    accuracies: Mapping[str, Sequence[Sequence[float]]],
    title: str = "",
) -> "Figure":
    """Draw training loss and hard test accuracy over epochs: for each pair the mean over its runs, and their range.

    `losses` (in nats) and `accuracies` (in [0, 1]) have by name of the pair a list of runs; a run is a list of one
    number an epoch. The range of runs is a band, as long as the shortest run. There is no panel of accuracies if no run
    has any. ValueError if `losses` is empty.
    """
    require_some(losses, "runs")
    has_accuracies = any(run for runs in accuracies.values() for run in runs)
    figure = new_figure(9.6 if has_accuracies else 5.2, 4.0)
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(1, 2 if has_accuracies else 1, squeeze=False)[0]
    _bands(axes[0], losses, 1.0)
    axes[0].set_yscale("log")
    axes[0].set(xlabel="epoch", ylabel="training loss (nats)", title="training set, as trained")
    if has_accuracies:
        _bands(axes[1], accuracies, 100.0)
        axes[1].set(xlabel="epoch", ylabel="accuracy (%)", title="test set, hard weights")
        low = min(100 * run[-1] for runs in accuracies.values() for run in runs if run)
        axes[1].set_ylim(max(0.0, low - 2.0 * max(100.0 - low, 2.0)), 100.0)
    axes[-1].legend(frameon=False, fontsize=8, loc="best", ncols=2)
    return figure


def _bands(axes: "Axes", runs_of: Mapping[str, Sequence[Sequence[float]]], factor: float) -> None:
    """Draw for each pair the mean over its runs, up to the shortest, and their range as a band."""
    for name, runs in runs_of.items():
        length = min((len(run) for run in runs), default=0)
        if length == 0:
            continue
        values = factor * torch.tensor([list(run[:length]) for run in runs], dtype=torch.float64)
        epochs = range(1, length + 1)
        colour = PAIR_COLOURS.get(name, "#444444")
        axes.plot(epochs, values.mean(0), color=colour, linewidth=1.5, label=name, marker="." if length == 1 else None)
        axes.fill_between(epochs, values.amin(0), values.amax(0), color=colour, alpha=0.12, linewidth=0)
    bare(axes)
    axes.xaxis.set_major_locator(extras.require("matplotlib.ticker", "plots").MaxNLocator(integer=True))


def plot_excesses(panels: Mapping[str, Mapping[str, tuple[Tensor, Tensor | None]]]) -> "Figure":
    """Draw the average excess loss of runs over their steps on logarithmic axes, with its bound as a dashed line.

    `panels` has by title of the panel and name of the run (excess, bound): tensors (steps,) with the average over the
    first t steps and its bound there; without a bound (None) the excess is dotted. Numbers that are not positive are
    left out. A run is named "pair" or "pair, run". A wide grey line shows the rate log t/√t, scaled to the bound or
    excess of a panel's first run. ValueError without a panel, or without a run in one.
    """
    require_some(panels, "panels")
    for title, runs in panels.items():
        require_some(runs, f"runs of {title!r}")
    figure = new_figure(4.2 * len(panels), 4.8)
    for axes, (title, runs) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for name, (excess, bound) in runs.items():
            colour = PAIR_COLOURS.get(name.partition(",")[0], "#444444")
            horizons, width = torch.arange(1, len(excess) + 1), 0.9 if "," in name else 1.6
            shown = torch.where(excess > 0, excess, torch.nan)  # its logarithm would be at the bottom
            axes.plot(horizons, shown, ":" if bound is None else "-", color=colour, linewidth=width, label=name)
            if bound is not None:
                axes.plot(horizons, bound, "--", color=colour, linewidth=0.6 * width)
        excess, bound = next(iter(runs.values()))
        first = min(max(len(excess) // 100, 8), len(excess))  # before t = e² the rate rises
        late = torch.arange(first, len(excess) + 1, dtype=torch.float64)
        rate = late.log() / late.sqrt()
        start = (excess if bound is None else bound)[first - 1]
        axes.plot(late, rate * (start / rate[0]), color="#cccccc", linewidth=5, zorder=0, label="∝ log t/√t")
        axes.set(xscale="log", yscale="log", xlabel="steps t", title=title)
        bare(axes)
    figure.axes[0].set_ylabel("average excess loss")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    lines = extras.require("matplotlib.lines", "plots").Line2D
    handles += [lines([], [], color="#444444", linestyle=style, linewidth=0.9) for style in ("--", ":")]
    labels += ["its bound", "no bound"]
    figure.legend(handles, labels, loc="outside lower center", ncols=7, frameon=False)
    return figure


def plot_latents(layers: Mapping[str, tuple[Tensor, Tensor]], title: str = "") -> "Figure":
    """Draw for each layer the histogram of latent weights in units of ᾱ, and the shares of hard weights < 0 and > 0.

    `layers` has (latent weight, hard weight) by name of the layer, two tensors of one shape. ᾱ is the mean |latent|
    of each index of the first dimension, whatever the layer's scale. Values beyond ±4 count in the outermost bins.
    ValueError without a layer.
    """
    if not layers:
        raise ValueError("plot_latents needs at least one layer: pass {name: (layer.latent, layer.binary_weight)}")
    figure = new_figure(2.9 * len(layers) + 0.6, 3.4)
    figure.suptitle(title, fontsize=11)
    for axes, (name, (latent, hard)) in zip(
        figure.subplots(1, len(layers), squeeze=False)[0], layers.items(), strict=True
    ):
        _histogram(axes, latent.detach(), hard.detach())
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("latent w* / ᾱ")
    figure.axes[0].set_ylabel("share of weights")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def _histogram(axes: "Axes", latent: Tensor, hard: Tensor) -> None:
    alpha_bar = latent.abs().mean(tuple(range(1, latent.dim())), keepdim=True)
    alpha_bar = torch.where(alpha_bar == 0, 1.0, alpha_bar)
    x = (latent / alpha_bar).flatten()
    counts, edges = torch.histogram(x.float().clamp(-4, 4).cpu(), bins=80, range=(-4.0, 4.0))
    shares = counts / x.numel()
    axes.stairs(shares, edges, fill=True, color=SHADES["F"][0], label="latents")
    axes.set_ylim(0, 1.45 * float(shares.max()))
    for value, side in ((-1, "right"), (1, "left")):
        share = float(((hard / alpha_bar).flatten() * value > 0).double().mean())
        axes.axvline(
            value, color=SHADES["B"][1], linewidth=1.6, label="hard weights ±1, and their shares" if value > 0 else None
        )
        axes.annotate(
            f"{100 * share:.0f} %", (value, 0.9), xycoords=("data", "axes fraction"), color=SHADES["B"][2],
            xytext=(4 * value, 0), textcoords="offset points", ha=side, fontsize=8,
        )  # fmt: skip
    bare(axes)


def plot_accuracies(
    panels: Mapping[str, Mapping[str, Sequence[float]]], floats: Sequence[float] = (), title: str = ""
) -> "Figure":
    """Draw accuracies in panels with a row for each pair: a point for each seed, and mean ± standard deviation.

    `panels` has by title of the panel and name of the pair the accuracies in [0, 1], one for each seed. `floats` are
    those of float networks, whose mean ± standard deviation is a band in each panel. ValueError without a panel.
    """
    require_some(panels, "panels")
    heights = {panel: len(values) + 3 for panel, values in panels.items()}  # title and axis take three lines
    middles = [sum([*heights.values()][:place]) + height / 2 for place, height in enumerate(heights.values())]
    count = sum(middle <= sum(heights.values()) / 2 for middle in middles)  # two columns of about the same height
    columns = [column for column in ([*heights][:count], [*heights][count:]) if column]
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
    caption = "accuracy of the hard network, %: each seed, mean ± sd"
    if floats:
        caption += ("\n" if len(columns) == 1 else "; ") + "grey: the float network"
    figure.supxlabel(caption, fontsize=9)
    return figure


def _draw_spreads(axes: "Axes", values: Mapping[str, Sequence[float]]) -> None:
    for place, (name, accuracies) in enumerate(values.items()):
        colour = PAIR_COLOURS.get(name, "#444444")
        percent = [100 * accuracy for accuracy in accuracies]
        mean, sd = _mean_and_sd(percent)
        axes.plot(percent, [place + 0.22] * len(percent), ".", color=colour, markersize=4, alpha=0.6)
        axes.errorbar(mean, place, xerr=sd, fmt="o", color=colour, markersize=5, capsize=3, linewidth=1.3)
    _list(axes, values)


def _mean_and_sd(values: Sequence[float]) -> tuple[float, float]:
    return fmean(values), stdev(values) if len(values) > 1 else 0.0


def plot_differences(panels: Mapping[str, Mapping[str, tuple[float, tuple[float, float] | None]]]) -> "Figure":
    """Draw mean differences of accuracies with their 95 % intervals as a forest plot, one panel for each comparison.

    `panels` has by title ("bnn++ against bnn+") and setting (mean, (low, high)), in [-1, 1]; the interval is None for
    one seed. A line is dark if its interval excludes 0. If all comparisons are in the same setting, one panel has
    them all. ValueError without a panel.
    """
    require_some(panels, "panels")
    names = {name for settings in panels.values() for name in settings}
    if len(names) == 1:
        panels = {name: {panel: settings[name] for panel, settings in panels.items()} for name in names}
    lines = [0.8 + len(settings) for settings in panels.values()]
    figure = new_figure(7.2, 0.6 + 0.28 * sum(lines))
    for axes, (panel, settings) in zip(
        figure.subplots(len(panels), 1, height_ratios=lines, squeeze=False, sharex=True)[:, 0],
        panels.items(),
        strict=True,
    ):
        for place, (mean, interval) in enumerate(settings.values()):
            low, high = interval or (mean, mean)
            colour = "#252525" if interval is not None and (low > 0 or high < 0) else "#969696"
            axes.plot([100 * low, 100 * high], [place, place], color=colour, linewidth=1.6)
            axes.plot(100 * mean, place, "o" if interval else "x", color=colour, markersize=5)
        axes.axvline(0.0, color="#777777", linewidth=0.8, zorder=0.6)
        axes.set_title(panel, fontsize=10, loc="left")
        _list(axes, settings)
    has_single = any(interval is None for settings in panels.values() for _, interval in settings.values())
    words = "points of accuracy, mean over seeds and 95 % interval" + "; x: one seed" * has_single
    figure.supxlabel(words, fontsize=9)
    return figure


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
    below.invert_yaxis()
    _tidy(below)
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
    axes.invert_yaxis()
    _tidy(axes)


def _list(axes: "Axes", names: Collection[str]) -> None:
    """Write the names of the rows, the first at the top."""
    axes.set_yticks(range(len(names)), list(names))
    axes.set_ylim(len(names) - 0.4, -0.6)
    _tidy(axes)
    axes.tick_params(axis="x", labelsize=8)


def _tidy(axes: "Axes") -> None:
    axes.margins(x=0.08)
    bare(axes)
    axes.tick_params(axis="y", length=0, labelsize=8)
