"""Pictures of pairs: F and B by sharpness."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from proxconnect._support import extras
from proxconnect.inspection.plots.figures import REACH, SHADES, cross_at_zero, new_figure
from proxconnect.pairs import PAIRS, AnyPair, Heuristic, resolve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


def plot_pair(pair: str | AnyPair, mus: Sequence[float] | None = None) -> "Figure":
    """Draw F and B of one pair over x, one line for each sharpness of `mus`, by default three from soft to sharp.

    ValueError if a μ is outside the pair's domain.
    """
    pair = resolve(pair)
    figure = new_figure(6.4, 4.6)
    figure.suptitle(_title(pair), fontsize=11)
    forward, backward = figure.subplots(2, 1, sharex=True)
    _draw(pair, forward, backward, mus)
    forward.set_ylabel("F(x)")
    backward.set_ylabel("B(x)")
    backward.set_xlabel("x, the latent weight in units of its scale")
    if pair.sharpness is not None:
        for axes in (forward, backward):
            axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def plot_catalogue(pairs: Mapping[str, AnyPair] | Iterable[str | AnyPair] = PAIRS) -> "Figure":
    """Draw small multiples of F (blue) over B (orange) of every pair; heuristics are marked and shaded."""
    chosen = [resolve(pair) for pair in (pairs.values() if isinstance(pairs, Mapping) else pairs)]
    columns = min(5, len(chosen) + 1)
    rows = math.ceil((len(chosen) + 1) / columns)
    figure = new_figure(2.05 * columns, 2.15 * rows + 0.35)
    cells = figure.subfigures(rows, columns, squeeze=False, wspace=0.01, hspace=0.02).ravel()
    for pair, cell in zip(chosen, cells, strict=False):
        if isinstance(pair, Heuristic):
            cell.set_facecolor("#f2f2f2")
        cell.suptitle(_title(pair), fontsize=9)
        forward, backward = cell.subplots(2, 1, sharex=True)
        _draw(pair, forward, backward)
        forward.set_ylabel("F", rotation=0, labelpad=6)
        backward.set_ylabel("B", rotation=0, labelpad=6)
        for axes in (forward, backward):
            axes.tick_params(labelsize=7)
    _explain(cells[len(chosen)])
    return figure


def _title(pair: AnyPair) -> str:
    return f"{pair.name} (heuristic)" if isinstance(pair, Heuristic) else pair.name


def _draw(pair: AnyPair, forward: "Axes", backward: "Axes", mus: Sequence[float] | None = None) -> None:
    """Draw the lines of F and B, by default for three μ from soft to sharp; a jump is an upright line."""
    if pair.sharpness is None:
        mus = [1.0]
    elif mus is None:
        mus = [max(pair.sharpness.lowest, mu) for mu in (1.0, 2.0, 6.0)]
    x = torch.linspace(-REACH, REACH, 2001, dtype=torch.float64)
    for i, mu in enumerate(mus):
        shade = len(SHADES["F"]) - 1 if len(mus) == 1 else round(i * (len(SHADES["F"]) - 1) / (len(mus) - 1))
        for axes, values, part in ((forward, pair.forward(x, mu), "F"), (backward, pair.backward(x, mu), "B")):
            axes.plot(x, values, color=SHADES[part][shade], linewidth=1.4, label=f"μ = {mu:g}")
    for axes in (forward, backward):
        cross_at_zero(axes)
        axes.set_xlim(-REACH, REACH)
    forward.set_ylim(-1.6, 1.6)
    top = max(float(pair.backward(x, mu).max()) for mu in mus)
    backward.set_ylim(-0.15 * max(top, 1.0), 1.15 * max(top, 1.0))


def _explain(cell: "Figure | SubFigure") -> None:
    """Draw the legend of the catalogue in the cell after the last pair."""
    lines = extras.require("matplotlib.lines", "plots").Line2D
    handles = []
    for part, heading in (("F", "F, forward"), ("B", "B, backward")):
        handles.append(lines([], [], color="none", label=heading))
        for colour, label in zip(SHADES[part], ("soft, μ = 1", "μ = 2", "sharp, μ = 6, or no μ"), strict=True):
            handles.append(lines([], [], color=colour, label=label))
    cell.legend(handles=handles, loc="center", frameon=False, fontsize=7.5, handlelength=1.4)
