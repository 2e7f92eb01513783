"""Pictures of pairs, of training runs and of latents, as matplotlib figures that no window shows.

Needs the extra `plots`. Every function returns a `matplotlib.figure.Figure`; `save` writes one as a PNG or SVG file.
"""

import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from proxconnect import extras
from proxconnect.atomic import replacing
from proxconnect.pairs import PAIRS, AnyPair, Heuristic, resolve
from proxconnect.theory import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from proxconnect.theory import Verdict
    from proxconnect.theory.curves import ProxCurve

SHADES = {"F": ("#9ecae1", "#4292c6", "#08306b"), "B": ("#fdbe85", "#f16913", "#7f2704")}
"""Colours of F and of B by sharpness, soft to sharp."""

PAIR_COLOURS = {
    "fp": "#444444", "bc": "#0072b2", "pc": "#e69f00", "parq": "#8c6d31", "binaryrelax": "#56b4e9", "md": "#999933",
    "bnn": "#009e73", "bnn+": "#cc79a7", "bnn++": "#d62728", "poly": "#9467bd", "poly+": "#5e3c99", "ede": "#b2912f",
    "ede+": "#17becf", "clip+": "#7f3b08", "erf": "#a6d96a", "erf+": "#1b7837",
}  # fmt: skip
"""One colour a pair in every picture of runs."""

SUFFIXES = (".png", ".svg")
"""The kinds of files that `save` writes."""

_REACH = 2.5

_PART_COLOUR = "#252525"

_INFINITE = {(True, True): ", +∞ beyond", (True, False): ", +∞ below", (False, True): ", +∞ above", (False, False): ""}
"""Where r is +∞, by the ends at which P is flat."""

_ANSWER_COLOURS = {True: "#1b7837", False: "#b2182b", None: "#8c6d31"}


def plot_pair(pair: str | AnyPair, mus: Sequence[float] | None = None) -> "Figure":
    """F and B of one pair over x, a line each for a few sharpnesses μ.

    `mus` defaults to three values from soft to sharp; ValueError where one is outside the pair's domain.
    """
    pair = resolve(pair)
    figure = _figure(6.4, 4.6)
    figure.suptitle(_title(pair), fontsize=11)
    forward, backward = figure.subplots(2, 1, sharex=True)
    _draw(pair, forward, backward, _sharpnesses(pair, mus))
    forward.set_ylabel("F(x)")
    backward.set_ylabel("B(x)")
    backward.set_xlabel("x, the latent weight in units of its scale")
    if pair.sharpness is not None:
        for axes in (forward, backward):
            axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def plot_catalogue(pairs: Mapping[str, AnyPair] | Iterable[str | AnyPair] = PAIRS) -> "Figure":
    """F (blue) over B (orange) of every pair, small multiples; heuristics are marked and shaded."""
    chosen = [resolve(pair) for pair in (pairs.values() if isinstance(pairs, Mapping) else pairs)]
    columns = min(5, len(chosen) + 1)
    rows = math.ceil((len(chosen) + 1) / columns)
    figure = _figure(2.05 * columns, 2.15 * rows + 0.35)
    cells = figure.subfigures(rows, columns, squeeze=False, wspace=0.01, hspace=0.02).ravel()
    for pair, cell in zip(chosen, cells, strict=False):
        if isinstance(pair, Heuristic):
            cell.set_facecolor("#f2f2f2")
        cell.suptitle(_title(pair), fontsize=9)
        forward, backward = cell.subplots(2, 1, sharex=True)
        _draw(pair, forward, backward, _sharpnesses(pair, None))
        forward.set_ylabel("F", rotation=0, labelpad=6)
        backward.set_ylabel("B", rotation=0, labelpad=6)
        for axes in (forward, backward):
            axes.tick_params(labelsize=7)
    _explain(cells[len(chosen)])
    return figure


def plot_curves(
    losses: Mapping[str, Sequence[Sequence[float]]],
    accuracies: Mapping[str, Sequence[Sequence[float]]],
    title: str = "",
) -> "Figure":
    """Training loss and hard test accuracy over epochs: by pair, a list of runs; the mean, and the range as a band.

    Losses are in nats, accuracies in [0, 1].
    """
    figure = _figure(9.6, 4.0)
    figure.suptitle(title, fontsize=11)
    left, right = figure.subplots(1, 2)
    _bands(left, losses, 1.0)
    _bands(right, accuracies, 100.0)
    left.set_yscale("log")
    left.set(xlabel="epoch", ylabel="training loss (nats)", title="training set, as trained")
    right.set(xlabel="epoch", ylabel="accuracy (%)", title="test set, hard weights")
    finals = [100 * run[-1] for runs in accuracies.values() for run in runs if run]
    if finals:
        low = min(finals)
        right.set_ylim(max(0.0, low - 2.0 * max(100.0 - low, 2.0)), 100.0)
    right.legend(frameon=False, fontsize=8, loc="lower right", ncols=2)
    return figure


def plot_latents(layers: Mapping[str, tuple[Tensor, Tensor]], title: str = "") -> "Figure":
    """By layer name, from (latent, hard weight): the histogram of w*/ᾱ, and the shares that become -1 and +1.

    ᾱ is that of the output channel, whatever the layer's scale; what is beyond ±4 counts in the outermost bins.
    """
    if not layers:
        raise ValueError("plot_latents needs at least one layer: pass {name: (layer.latent, layer.binary_weight)}")
    figure = _figure(2.9 * len(layers) + 0.6, 3.4)
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


def plot_excesses(panels: Mapping[str, Mapping[str, tuple[Tensor, Tensor | None]]]) -> "Figure":
    """By title and pair, the average excess loss of a run at every horizon, (t,), and what bounds it, dashed.

    On logarithmic axes. Dotted where the bound is None. What follows a comma in the name of a pair tells its runs
    apart. The rate of a convex potential, log t/√t, is drawn from the first run's bound on.
    """
    figure = _figure(4.2 * len(panels), 4.8)
    for axes, (title, runs) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for name, (excess, bound) in runs.items():
            colour = PAIR_COLOURS.get(name.partition(",")[0], "#444444")
            horizons, width = torch.arange(1, len(excess) + 1), 0.9 if "," in name else 1.6
            shown = torch.where(excess > 0, excess, torch.nan)  # a logarithm would fall to the bottom
            axes.plot(horizons, shown, ":" if bound is None else "-", color=colour, linewidth=width, label=name)
            if bound is not None:
                axes.plot(horizons, bound, "--", color=colour, linewidth=0.6 * width)
        _draw_rate(axes, *next(iter(runs.values())))
        axes.set(xscale="log", yscale="log", xlabel="steps t", title=title)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("average excess loss")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    lines = extras.require("matplotlib.lines", "plots").Line2D
    handles += [lines([], [], color="#444444", linestyle=style, linewidth=0.9) for style in ("--", ":")]
    labels += ["its bound", "has none"]
    figure.legend(handles, labels, loc="outside lower center", ncols=7, frameon=False)
    return figure


def _draw_rate(axes: "Axes", excess: Tensor, bound: Tensor | None) -> None:
    """log t/√t over the later steps, from where the bound is then, or the excess without one."""
    first = min(max(len(excess) // 100, 8), len(excess))  # before t = e² it rises
    late = torch.arange(first, len(excess) + 1, dtype=torch.float64)
    rate = late.log() / late.sqrt()
    start = (excess if bound is None else bound)[first - 1]
    axes.plot(late, rate * (start / rate[0]), color="#cccccc", linewidth=5, zorder=0, label="∝ log t/√t")


def plot_verdict(verdict: "Verdict") -> "Figure":
    """F and B with the place that decides shaded, and below them P(x), T(z) and r(z) where they exist.

    A jump is a gap of the line. T and r are dotted across a gap of P, where nothing but a convention fixes them. A pair
    that is not legitimate has ∫B, the F that would suit its B, dashed beside F.
    """
    figure = _figure(7.2, 3.6 if verdict.prox is None else 5.6)
    at = "" if verdict.mu is None else f" at μ = {verdict.mu:g}"
    why = textwrap.fill(f"{verdict.reason}{f' ({where})' if (where := words.place(verdict)) else ''}.", 118)
    figure.suptitle(f"{verdict.name}{at}: {words.answer(verdict)}", color=_ANSWER_COLOURS[verdict.legitimate])
    figure.supxlabel(why, fontsize=8.5)
    rows = figure.subfigures(1 if verdict.prox is None else 2, 1, squeeze=False)[:, 0]
    x = _window(verdict)
    forward, backward = rows[0].subplots(1, 2)
    for axes, function, part in ((forward, verdict.forward, "F"), (backward, verdict.backward, "B")):
        axes.plot(*_with_gaps(function, x), color=SHADES[part][2], linewidth=1.6)
        axes.set(title=f"{part}(x)", xlabel="x", xlim=(float(x[0]), float(x[-1])))
        _shade(axes, verdict)
    if verdict.legitimate is False:
        _draw_integral(forward, verdict.backward, x)
    if verdict.prox is not None:
        _draw_parts(rows[1].subplots(1, 3), verdict, verdict.prox, x)
    for axes in figure.axes:
        axes.margins(y=0.12)
        axes.axhline(0.0, color="#bbbbbb", linewidth=0.6, zorder=0)
        axes.axvline(0.0, color="#bbbbbb", linewidth=0.6, zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize(10)
    return figure


def save(figure: "Figure", path: Path) -> None:
    """Write `figure` as the PNG or SVG file that the suffix of `path` says, aside first and then renamed.

    ValueError for another suffix.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"give a file that ends in {' or '.join(SUFFIXES)}, got {str(path)!r}")
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=130)


def _figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches, that belongs to no global state."""
    figure: Figure = extras.require("matplotlib.figure", "plots").Figure(figsize=(width, height), layout="constrained")
    return figure


def _title(pair: AnyPair) -> str:
    return f"{pair.name} (heuristic)" if isinstance(pair, Heuristic) else pair.name


def _sharpnesses(pair: AnyPair, mus: Sequence[float] | None) -> list[float]:
    """The μ to draw: those asked for, else three from soft to sharp; any one where the pair does not depend on μ."""
    if pair.sharpness is None:
        return [1.0]
    return [max(pair.sharpness.lowest, mu) for mu in (1.0, 2.0, 6.0)] if mus is None else list(mus)


def _draw(pair: AnyPair, forward: "Axes", backward: "Axes", mus: Sequence[float]) -> None:
    """The lines of F and B; a jump is an upright line."""
    x = torch.linspace(-_REACH, _REACH, 2001, dtype=torch.float64)
    for i, mu in enumerate(mus):
        shade = len(SHADES["F"]) - 1 if len(mus) == 1 else round(i * (len(SHADES["F"]) - 1) / (len(mus) - 1))
        for axes, values, part in ((forward, pair.forward(x, mu), "F"), (backward, pair.backward(x, mu), "B")):
            axes.plot(x, values, color=SHADES[part][shade], linewidth=1.4, label=f"μ = {mu:g}")
    for axes in (forward, backward):
        axes.axhline(0.0, color="#bbbbbb", linewidth=0.6, zorder=0)
        axes.axvline(0.0, color="#bbbbbb", linewidth=0.6, zorder=0)
        axes.set_xlim(-_REACH, _REACH)
        axes.spines[["top", "right"]].set_visible(False)
    forward.set_ylim(-1.6, 1.6)
    top = max(float(pair.backward(x, mu).max()) for mu in mus)
    backward.set_ylim(-0.15 * max(top, 1.0), 1.15 * max(top, 1.0))


def _explain(cell: "Figure | SubFigure") -> None:
    """The legend of the catalogue, in the cell after the last pair."""
    lines = extras.require("matplotlib.lines", "plots").Line2D
    labels = ("soft, μ = 1", "μ = 2", "sharp, μ = 6, or no μ")
    handles = [lines([], [], color="none", label="F, forward")]
    handles += [lines([], [], color=c, label=label) for c, label in zip(SHADES["F"], labels, strict=True)]
    handles += [lines([], [], color="none", label="B, backward")]
    handles += [lines([], [], color=c, label=label) for c, label in zip(SHADES["B"], labels, strict=True)]
    cell.legend(handles=handles, loc="center", frameon=False, fontsize=7.5, handlelength=1.4)


def _bands(axes: "Axes", runs_of: Mapping[str, Sequence[Sequence[float]]], factor: float) -> None:
    """For each pair the mean over its runs, and their range as a band; runs may be of different lengths."""
    for name, runs in runs_of.items():
        length = min((len(run) for run in runs), default=0)
        if length == 0:
            continue
        values = factor * torch.tensor([list(run[:length]) for run in runs], dtype=torch.float64)
        epochs = range(1, length + 1)
        colour = PAIR_COLOURS.get(name, "#444444")
        axes.plot(epochs, values.mean(0), color=colour, linewidth=1.5, label=name, marker="." if length == 1 else None)
        axes.fill_between(epochs, values.amin(0), values.amax(0), color=colour, alpha=0.12, linewidth=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(extras.require("matplotlib.ticker", "plots").MaxNLocator(integer=True))


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
    axes.spines[["top", "right"]].set_visible(False)


def _window(verdict: "Verdict") -> Tensor:
    """Points x around 0, and as far as the place that decides and the jumps and kinks of P, within the domain."""
    places = [0.0 if low <= 0 <= high else min(abs(low), abs(high)) for low, high in [verdict.interval or (0.0, 0.0)]]
    if verdict.prox is not None:
        mesh = verdict.prox.mesh
        places += mesh.high[~mesh.smooth].abs().tolist()
    reach = max(_REACH, 1.3 * max(places))
    low, high = max(verdict.domain[0], -reach), min(verdict.domain[1], reach)
    return torch.linspace(*((low, high) if low < high else verdict.domain), 2001, dtype=torch.float64)


def _with_gaps(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Points and values of a function, both sides of each jump among them and a NaN between, which breaks the line.

    A step between neighbours is a jump where bisection leaves most of it; a slope, however steep, loses it.
    """

    def value(points: Tensor) -> Tensor:
        return function(points).detach()

    y = value(x)
    steps = y.diff().abs()
    seen = steps > 0.002 * (y.amax() - y.amin())
    low, high, whole = x[:-1][seen], x[1:][seen], steps[seen]
    for _ in range(60):
        middle = (low + high) / 2
        is_left = (value(middle) - value(low)).abs() >= (value(high) - value(middle)).abs()
        low, high = torch.where(is_left, low, middle), torch.where(is_left, middle, high)
    jumps = (value(high) - value(low)).abs() > 0.5 * whole
    low, high = low[jumps], high[jumps]
    points = torch.cat([x, low, low, high])
    values = torch.cat([y, value(low), torch.full_like(low, torch.nan), value(high)])
    order = points.argsort(stable=True)
    return points[order], values[order]


def _shade(axes: "Axes", verdict: "Verdict") -> None:
    """The place that decides: a band, or a line for a point."""
    if verdict.interval is None:
        return
    low, high = verdict.interval
    colour = _ANSWER_COLOURS[verdict.legitimate]
    if low == high:
        axes.axvline(low, color=colour, linestyle="--", linewidth=1.0)
    else:
        axes.axvspan(low, high, color=colour, alpha=0.13, linewidth=0)


def _draw_integral(axes: "Axes", backward: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """∫B from 0, or from the left end of x without 0."""
    gained = torch.cumulative_trapezoid(backward(x).detach(), x)
    whole = torch.cat([gained.new_zeros(1), gained])
    axes.plot(x, whole - whole[int(x.abs().argmin())], "--", color="#777777", linewidth=1.2, label="∫B")
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def _draw_parts(cells: Sequence["Axes"], verdict: "Verdict", prox: "ProxCurve", x: Tensor) -> None:
    """P over x, and T and r over the range of P."""
    assert verdict.transform is not None
    cells[0].plot(*_with_gaps(prox, x), color=_PART_COLOUR, linewidth=1.6)
    cells[0].set(title="P(x)", xlabel="x", xlim=(float(x[0]), float(x[-1])))
    z = _range(prox, x)
    is_reached = ~prox.preimage(z).in_gap
    for axes, function, title in (
        (cells[1], verdict.transform, "T(z)"),
        (cells[2], prox.regularizer, f"r(z){_INFINITE[prox.ends]}"),
    ):
        values = function(z).detach()
        axes.plot(z, values, ":", color="#777777", linewidth=1.2)
        axes.plot(z, torch.where(is_reached, values, torch.nan), color=_PART_COLOUR, linewidth=1.6)
        alone = is_reached & _is_alone(is_reached)
        axes.plot(z[alone], values[alone], "o", color=_PART_COLOUR, markersize=4)
        axes.set(title=title, xlabel="z")
    if bool((prox.regularizer(z).abs() < 1e-9).all()):
        cells[2].set_ylim(-1.0, 1.0)  # 0, of which only the rounding would show


def _range(prox: "ProxCurve", x: Tensor) -> Tensor:
    """Points z of the range of P over x, both sides of its gaps among them, and where it ends, as far as that."""
    over = prox(x)
    low = float(prox.p[0, 0] if prox.ends[0] else over[0])
    high = float(prox.p[-1, -1] if prox.ends[1] else over[-1])
    gaps = prox.p[~prox.mesh.smooth].flatten().clamp(low, high)
    z: Tensor = torch.cat([torch.linspace(low, high, 2001, dtype=torch.float64), gaps]).unique()
    return z


def _is_alone(is_reached: Tensor) -> Tensor:
    """Whether neither neighbour of a point is reached."""
    padded = torch.cat([is_reached.new_zeros(1), is_reached, is_reached.new_zeros(1)])
    return ~(padded[:-2] | padded[2:])
