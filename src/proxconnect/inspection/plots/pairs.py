"""Pictures of pairs by sharpness, and a page with a slider over μ, which needs neither a server nor a network."""

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from proxconnect._support import extras
from proxconnect._support.atomic import replacing
from proxconnect._support.paths import require_target
from proxconnect.inspection.plots.figures import PAIR_COLOURS, REACH, SHADES, cross_at_zero, new_figure
from proxconnect.pairs import PAIRS, AnyPair, Heuristic, Pair, resolve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_pair(pair: str | AnyPair, mus: Sequence[float] | None = None) -> "Figure":
    """Draw F above B of `pair`, a pair or its name in `PAIRS`, with a line for each sharpness in `mus`.

    By default there are three, from soft to sharp; a pair without sharpness has one and ignores `mus`. ValueError if a
    μ is outside the pair's domain, or if the name is unknown.
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
    """Draw each of `pairs` in a cell, F (blue) above B (orange), at three μ if it has a sharpness; shade heuristics.

    `pairs` are pairs or their names (of a mapping its values), by default the whole catalogue.
    """
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
    lines = extras.require("matplotlib.lines", "plots").Line2D  # for the legend, in the cell after the last pair
    handles = []
    for part, heading in (("F", "F, forward"), ("B", "B, backward")):
        handles.append(lines([], [], color="none", label=heading))
        for colour, label in zip(SHADES[part], ("soft, μ = 1", "μ = 2", "sharp, μ = 6, or no μ"), strict=True):
            handles.append(lines([], [], color=colour, label=label))
    cells[len(chosen)].legend(handles=handles, loc="center", frameon=False, fontsize=7.5, handlelength=1.4)
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


_MUS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 15.0, 20.0, 25.0, 30.0)
_START = _MUS.index(2.0)

_PANELS = {
    "F": ("", "F(x), forward", [-1.6, 1.6]),
    "B": ("2", "B(x), backward", None),
    "P": ("3", "P(x), prox", [-2.6, 2.6]),
    "T": ("4", "T(z), transform", [-1.6, 1.6]),
}
"""By part: the suffix of plotly's names of its axes, the title, and the range of y, by default that of the lines."""

# Both sides of 0 and of ±1 are among the points: functions that do not depend on μ jump there.
_X = torch.cat([
    torch.linspace(-REACH, REACH, 301, dtype=torch.float64),
    torch.tensor([-1 - 1e-9, -1e-9, 1 + 1e-9], dtype=torch.float64),
]).sort().values  # fmt: skip

_Line = tuple[AnyPair, str, Callable[[Tensor, float], Tensor]]
"""A pair, the name of one of its parts, and that part as a function of (x, μ)."""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>Forward-backward pairs by sharpness</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; color: #222; background: #fff; max-width: 1200px; }}
body {{ margin: 0 auto; padding: 0 6px; }}
p {{ margin: 8px 6px; }}
</style>
</head>
<body>
<p>Move the slider to sharpen the pairs. A click on a name hides or shows a pair, a double click shows it alone.
Dotted lines are heuristics, which have no P and T. Left of its lowest μ a pair stays as it is there.</p>
{figure}
</body>
</html>
"""

_ARRANGE = """
const figure = document.getElementById("{plot_id}"), shapes = SHAPES;
const arrange = () => {
  const shape = window.innerWidth < 640 ? "narrow" : "wide";
  if (shape !== figure.dataset.shape) { figure.dataset.shape = shape; Plotly.relayout(figure, shapes[shape]); }
};
arrange();
window.addEventListener("resize", arrange);
"""


def interactive_catalogue(
    path: str | os.PathLike[str], pairs: Mapping[str, AnyPair] | Iterable[str | AnyPair] = PAIRS
) -> None:
    """Write an HTML page to `path` with plots of F, B, P and T of `pairs` and a slider for the sharpness μ.

    The page needs no network. `pairs` are as in `plot_catalogue`; heuristics have no P and T. ValueError if `path` does
    not end in .html, or without pairs.
    """
    target = require_target(path, "pairs.html")
    if target.suffix.lower() != ".html":
        raise ValueError(f"give a file that ends in .html, got {str(path)!r}")
    chosen = [resolve(pair) for pair in (pairs.values() if isinstance(pairs, Mapping) else pairs)]
    if not chosen:
        raise ValueError("interactive_catalogue needs at least one pair: pass names of PAIRS or pairs")
    text = _PAGE.format(
        figure=_figure(chosen).to_html(
            full_html=False, include_plotlyjs=True, div_id="pairs",
            config={"displayModeBar": False, "responsive": True},
            post_script=_ARRANGE.replace("SHAPES", json.dumps(_shapes())),
        )
    )  # fmt: skip
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _figure(pairs: Iterable[AnyPair]) -> Any:
    """Make a plotly figure with a line for each part of each pair, redrawn by the slider if it depends on μ."""
    lines: list[_Line] = []
    for pair in pairs:
        lines += [(pair, "F", pair.forward), (pair, "B", pair.backward)]
        lines += [(pair, "P", pair.prox), (pair, "T", pair.transform)] if isinstance(pair, Pair) else []
    moving = [i for i, line in enumerate(lines) if line[0].sharpness and _y(line, _MUS[0]) != _y(line, _MUS[-1])]
    steps = [
        {"label": f"{mu:g}", "method": "restyle", "args": [{"y": [_y(lines[i], mu) for i in moving]}, moving]}
        for mu in _MUS
    ]
    data = [{  # the lines of one pair share an entry of the legend
        "type": "scatter", "mode": "lines", "name": pair.name, "legendgroup": pair.name, "showlegend": part == "F",
        "meta": part, "x": _X.tolist(), "y": _y(line, _MUS[_START]),
        "xaxis": f"x{_PANELS[part][0]}", "yaxis": f"y{_PANELS[part][0]}",
        "line": {
            "color": PAIR_COLOURS.get(pair.name, "#444444"), "width": 2, "simplify": False,
            "dash": "solid" if isinstance(pair, Pair) else "dot",
        },
        "hovertemplate": f"{pair.name}: {part}(%{{x:.2f}}) = %{{y:.3f}}<extra></extra>",
    } for line in lines for pair, part, _ in [line]]  # fmt: skip
    zero: dict[str, Any] = {"zerolinecolor": "#bbbbbb"}
    layout = {
        **{f"xaxis{n}": {"anchor": f"y{n}", "range": [-REACH, REACH]} | zero for n, _, _ in _PANELS.values()},
        **{f"yaxis{n}": {"anchor": f"x{n}", "range": height} | zero for n, _, height in _PANELS.values()},
        "annotations": [{
            "text": f"<b>{title}</b>", "showarrow": False, "xref": f"x{n} domain", "yref": f"y{n} domain",
            "x": 0.02, "y": 0.98, "xanchor": "left", "yanchor": "top", "bgcolor": "rgba(255, 255, 255, 0.8)",
        } for n, title, _ in _PANELS.values()],
        "sliders": [{"active": _START, "steps": steps, "currentvalue": {"prefix": "μ = ", "font": {"size": 17}},
                     "pad": {"t": 0, "b": 8}, "x": 0, "len": 1, "y": 1, "yanchor": "bottom"}],
        "updatemenus": [_buttons([isinstance(pair, Pair) for pair, _, _ in lines])],
        "template": "plotly_white",
        "hovermode": "closest",
        "font": {"family": "system-ui, sans-serif"},
    }  # fmt: skip
    return extras.require("plotly.graph_objects", "plots").Figure(data=data, layout=layout)


def _y(line: _Line, mu: float) -> list[float]:
    """Evaluate a part at this μ, or at the lowest that the pair allows, to four digits."""
    pair, _, function = line
    lowest = pair.sharpness.lowest if pair.sharpness else 0.0
    return [round(value, 4) for value in function(_X, max(lowest, mu)).tolist()]


def _buttons(legitimate: list[bool]) -> dict[str, Any]:
    count, heuristic = len(legitimate), [not held for held in legitimate]
    groups = {"all": [True] * count, "legitimate": legitimate, "heuristics": heuristic, "none": [False] * count}
    return {
        "type": "buttons", "direction": "right", "showactive": False, "x": 0, "xanchor": "left",
        "y": 1, "yanchor": "bottom", "pad": {"b": 92},
        "buttons": [
            {"label": label, "method": "restyle", "args": ["visible", [drawn or "legendonly" for drawn in shown]]}
            for label, shown in groups.items()
        ],
    }  # fmt: skip


def _shapes() -> dict[str, dict[str, Any]]:
    """Return layouts for a wide window, two by two, and for a narrow one, in which scrolling moves no panel."""
    left, right, low, high = (0, 0.48), (0.54, 1), (0, 0.47), (0.53, 1)
    wide = {
        **_placed([(left, high), (right, high), (left, low), (right, low)], is_fixed=False), "height": 780,
        "margin": {"l": 40, "r": 10, "t": 138, "b": 30}, "dragmode": "zoom",
        "legend": {"orientation": "v", "x": 1.02, "y": 1, "xanchor": "left", "yanchor": "top"},
    }  # fmt: skip
    rows = (0.775, 1), (0.52, 0.745), (0.265, 0.49), (0.01, 0.235)
    narrow = {
        **_placed([((0, 1), row) for row in rows], is_fixed=True), "height": 1460,
        "margin": {"l": 30, "r": 8, "t": 138, "b": 170}, "dragmode": False,
        "legend": {"orientation": "h", "x": 0, "y": -0.03, "xanchor": "left", "yanchor": "top"},
    }  # fmt: skip
    return {"wide": wide, "narrow": narrow}


def _placed(places: list[tuple[tuple[float, float], tuple[float, float]]], *, is_fixed: bool) -> dict[str, Any]:
    """Return the domains of the panels, and whether they can be zoomed."""
    placed: dict[str, Any] = {}
    for (number, _, _), domains in zip(_PANELS.values(), places, strict=True):
        for axis, domain in zip("xy", domains, strict=True):
            placed |= {f"{axis}axis{number}.domain": domain, f"{axis}axis{number}.fixedrange": is_fixed}
    return placed
