"""Pictures of a search: its landscape, and F, B, T and P of its winners."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from pandas import DataFrame, Series

from proxconnect.inspection.plots.figures import REACH, SHADES, bare, cross_at_zero, new_figure
from proxconnect.pairs import AnyPair, Pair, resolve
from proxconnect.training.discovery.laws import ends
from proxconnect.training.discovery.space import Range

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from proxconnect.training.discovery.discover import Standing


def draw_landscape(ranked: "Sequence[Standing]") -> "Figure | None":
    """Draw the candidates of a space over the two numbers that go with accuracy most; None if it has fewer than two.

    The colour is the accuracy of the first round, the mean over settings; the best candidate has a ring.
    """
    tried = [s for s in ranked if s.rounds]
    space = ranked[0].candidate.space
    names = [name for name, parameter in space.parameters.items() if isinstance(parameter, Range)]
    if len(names) < 2 or len(tried) < 3:
        return None
    shares = [100 * sum(s.rounds[0].values()) / len(s.rounds[0]) for s in tried]
    values = {name: [float(s.candidate.values[name]) for s in tried] for name in names}
    correlations = DataFrame(values).rank().corrwith(Series(shares).rank()).abs().fillna(0.0)  # Spearman's
    x, y = sorted(names, key=lambda name: -correlations[name])[:2]
    figure = new_figure(5.6, 4.2)
    axes = figure.subplots()
    points = axes.scatter(values[x], values[y], c=shares, cmap="viridis", s=42)
    best = max(range(len(tried)), key=lambda i: (len(tried[i].rounds), -tried[i].rank))
    axes.scatter([values[x][best]], [values[y][best]], s=170, facecolors="none", edgecolors="#d62728", linewidths=1.8)
    axes.set(xlabel=x, ylabel=y, title=f"{space.name}: {len(tried)} candidates, the best ringed")
    for name, scale in ((x, axes.set_xscale), (y, axes.set_yscale)):
        parameter = space.parameters[name]
        if isinstance(parameter, Range) and parameter.log:
            scale("log")
    bare(axes)
    figure.colorbar(points, label="accuracy in the first round, %")
    return figure


def draw_winners(winners: Sequence[tuple[str, Mapping[str, Any]]]) -> "Figure | None":
    """Draw F, B and T with P of the weights' pairs of `winners`, (name, configuration); None if none has a pair.

    Each has a column, with lines for the first, the middle and the last μ of its course.
    """
    found = [(name, *_moving(configuration)) for name, configuration in winners]
    drawn = [(name, pair, mus, words) for name, pair, mus, words in found if pair is not None]
    if not drawn:
        return None
    figure = new_figure(2.7 * len(drawn) + 0.4, 6.6)
    grid = figure.subplots(3, len(drawn), squeeze=False, sharex=True)
    x = torch.linspace(-REACH, REACH, 1001, dtype=torch.float64)
    for column, (name, pair, mus, words) in enumerate(drawn):
        grid[0, column].set_title(f"{name}\n{pair.name}\n{words}", fontsize=8)
        for shade, mu in enumerate(mus):
            colours = {part: SHADES[part][shade if len(mus) > 1 else 2] for part in "FB"}
            label = None if pair.sharpness is None else f"μ = {mu:.3g}"
            grid[0, column].plot(x, pair.forward(x, mu), color=colours["F"], label=label)
            B = pair.backward(x, mu)
            grid[1, column].plot(x, B / B.abs().max(), color=colours["B"])
            if isinstance(pair, Pair):
                grid[2, column].plot(x, pair.transform(x, mu), color=colours["F"])
                grid[2, column].plot(x, pair.prox(x, mu), color=colours["F"], linestyle="--")
        if not isinstance(pair, Pair):
            grid[2, column].set_yticks([])
            grid[2, column].text(0, 0.2, "a heuristic has\nno T and P", ha="center", fontsize=8, color="#555555")
        if pair.sharpness is not None:
            grid[0, column].legend(frameon=False, fontsize=7)
    for row, label in enumerate(("F(x)", "B(x) / max |B|", "T (line), P (dashes)")):
        grid[row, 0].set_ylabel(label)
        for axes in grid[row]:
            cross_at_zero(axes)
    return figure


def _moving(configuration: Mapping[str, Any]) -> tuple[AnyPair | None, list[float], str]:
    """Return the pair of the weights, three μ of its course and the course in words; None for a pair of MODULE:NAME."""
    model = configuration.get("model") or {}
    name = (model.get("binary") or {}).get("weights")
    if not isinstance(name, str) or ":" in name:
        return None, [], ""
    pair, course = resolve(name), ((model.get("sharpening") or {}).get("weights") or {})
    moved = ends(pair, course)
    if moved is None:
        return pair, [1.0], "no μ"
    start, end = moved
    if start == end:
        return pair, [start], f"μ = {start:g}"
    return pair, [start, math.sqrt(start * end), end], f"μ {start:g} → {end:g}"
