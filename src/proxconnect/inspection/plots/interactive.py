"""All pairs in one picture with a slider over μ: a page that needs neither a server nor a network."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from proxconnect._support import extras
from proxconnect._support.atomic import replacing
from proxconnect.inspection.plots.figures import PAIR_COLOURS, REACH
from proxconnect.pairs import PAIRS, AnyPair, Pair, resolve

_MUS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 15.0, 20.0, 25.0, 30.0)
_START = _MUS.index(2.0)

_PANELS = {"F": "F(x), forward", "B": "B(x), backward", "P": "P(x), prox", "T": "T(z), transform"}
"""Titles of the panels."""

_AXES = dict(zip(_PANELS, ("", "2", "3", "4"), strict=True))
"""What stands behind x and y in the names that plotly has for the axes of a panel."""

_TALL = {"F": [-1.6, 1.6], "P": [-2.6, 2.6], "T": [-1.6, 1.6]}
"""The ranges of y; that of B follows what is drawn."""

_ID = "pairs"

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


def interactive_catalogue(path: Path, pairs: Mapping[str, AnyPair] | Iterable[str | AnyPair] = PAIRS) -> None:
    """Write a page with F, B, P and T of all pairs and a slider over μ, an HTML file that holds all that it needs.

    ValueError for a path that does not end in .html, and without pairs.
    """
    if path.suffix.lower() != ".html":
        raise ValueError(f"give a file that ends in .html, got {str(path)!r}")
    chosen = [resolve(pair) for pair in (pairs.values() if isinstance(pairs, Mapping) else pairs)]
    if not chosen:
        raise ValueError("interactive_catalogue needs at least one pair: pass names of PAIRS or pairs")
    figure = _figure(chosen)
    text = _PAGE.format(
        figure=figure.to_html(
            full_html=False, include_plotlyjs=True, div_id=_ID, config={"displayModeBar": False, "responsive": True},
            post_script=_ARRANGE.replace("SHAPES", json.dumps({"wide": _wide(), "narrow": _narrow()})),
        )
    )  # fmt: skip
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _figure(pairs: Iterable[AnyPair]) -> Any:
    """A plotly figure: a line for each part of each pair, which the slider redraws where it depends on μ."""
    lines = [(pair, part, function) for pair in pairs for part, function in _parts(pair).items()]
    x = _points()
    traces = [_trace(pair, part, x, _values(pair, function, x, _MUS[_START])) for pair, part, function in lines]
    moving = [i for i, (pair, _, function) in enumerate(lines) if _moves(pair, function, x)]
    steps = [
        {
            "label": f"{mu:g}",
            "method": "restyle",
            "args": [{"y": [_values(lines[i][0], lines[i][2], x, mu) for i in moving]}, moving],
        }
        for mu in _MUS
    ]
    layout = {
        **{f"{axis}axis{number}": _axis(axis, part) for axis in "xy" for part, number in _AXES.items()},
        "annotations": [_title(part) for part in _PANELS],
        "sliders": [{"active": _START, "steps": steps, "currentvalue": {"prefix": "μ = ", "font": {"size": 17}},
                     "pad": {"t": 0, "b": 8}, "x": 0, "len": 1, "y": 1, "yanchor": "bottom"}],
        "updatemenus": [_buttons([line[0] for line in lines])],
        "template": "plotly_white",
        "hovermode": "closest",
        "font": {"family": "system-ui, sans-serif"},
    }  # fmt: skip
    return extras.require("plotly.graph_objects", "plots").Figure(data=traces, layout=layout)


def _parts(pair: AnyPair) -> dict[str, Callable[[Tensor, float], Tensor]]:
    """F and B, and of a legitimate pair P and T."""
    parts: dict[str, Callable[[Tensor, float], Tensor]] = {"F": pair.forward, "B": pair.backward}
    return parts | {"P": pair.prox, "T": pair.transform} if isinstance(pair, Pair) else parts


def _points() -> Tensor:
    """Points around 0, both sides of 0 and of ±1 among them, where functions jump that do not depend on μ."""
    beside = torch.tensor([-1 - 1e-9, -1e-9, 1 + 1e-9], dtype=torch.float64)
    return torch.cat([torch.linspace(-REACH, REACH, 301, dtype=torch.float64), beside]).sort().values


def _values(pair: AnyPair, function: Callable[[Tensor, float], Tensor], x: Tensor, mu: float) -> list[float]:
    """The function at this μ or the lowest that the pair allows, in as many digits as can be seen."""
    lowest = pair.sharpness.lowest if pair.sharpness else 0.0
    return [round(value, 4) for value in function(x, max(lowest, mu)).tolist()]


def _moves(pair: AnyPair, function: Callable[[Tensor, float], Tensor], x: Tensor) -> bool:
    return pair.sharpness is not None and _values(pair, function, x, _MUS[0]) != _values(pair, function, x, _MUS[-1])


def _trace(pair: AnyPair, part: str, x: Tensor, y: list[float]) -> dict[str, Any]:
    """A line; those of one pair are one entry of the legend."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": pair.name,
        "legendgroup": pair.name,
        "showlegend": part == "F",
        "meta": part,
        "x": x.tolist(),
        "y": y,
        "xaxis": f"x{_AXES[part]}",
        "yaxis": f"y{_AXES[part]}",
        "line": {
            "color": PAIR_COLOURS.get(pair.name, "#444444"),
            "width": 2,
            "simplify": False,
            "dash": "solid" if isinstance(pair, Pair) else "dot",
        },
        "hovertemplate": f"{pair.name}: {part}(%{{x:.2f}}) = %{{y:.3f}}<extra></extra>",
    }


def _axis(axis: str, part: str) -> dict[str, Any]:
    """An axis of a panel, anchored to the other."""
    ranges = {"x": [-REACH, REACH], "y": _TALL.get(part)}
    return {"anchor": f"{'y' if axis == 'x' else 'x'}{_AXES[part]}", "range": ranges[axis], "zerolinecolor": "#bbbbbb"}


def _title(part: str) -> dict[str, Any]:
    """A title in the upper left corner of a panel."""
    return {
        "text": f"<b>{_PANELS[part]}</b>", "showarrow": False, "xref": f"x{_AXES[part]} domain",
        "yref": f"y{_AXES[part]} domain", "x": 0.02, "y": 0.98,
        "xanchor": "left", "yanchor": "top", "bgcolor": "rgba(255, 255, 255, 0.8)",
    }  # fmt: skip


def _buttons(pairs: list[AnyPair]) -> dict[str, Any]:
    """What is drawn, by groups; a pair for each line."""
    groups = {
        "all": [True for _ in pairs],
        "legitimate": [isinstance(pair, Pair) for pair in pairs],
        "heuristics": [not isinstance(pair, Pair) for pair in pairs],
        "none": [False for _ in pairs],
    }
    return {
        "type": "buttons", "direction": "right", "showactive": False, "x": 0, "xanchor": "left",
        "y": 1, "yanchor": "bottom", "pad": {"b": 92},
        "buttons": [
            {"label": label, "method": "restyle", "args": ["visible", [drawn or "legendonly" for drawn in shown]]}
            for label, shown in groups.items()
        ],
    }  # fmt: skip


def _wide() -> dict[str, Any]:
    """Two panels beside each other in two rows, the legend to the right."""
    left, right, low, high = [0, 0.48], [0.54, 1], [0, 0.47], [0.53, 1]
    places = zip((left, right, left, right), (high, high, low, low), strict=True)
    return {
        **_placed(places, is_fixed=False), "height": 780, "margin": {"l": 40, "r": 10, "t": 138, "b": 30},
        "dragmode": "zoom",
        "legend": {"orientation": "v", "x": 1.02, "y": 1, "xanchor": "left", "yanchor": "top"},
    }  # fmt: skip


def _narrow() -> dict[str, Any]:
    """One below the other, the legend at the end, and nothing that a finger which scrolls would move."""
    rows = [[0.775, 1], [0.52, 0.745], [0.265, 0.49], [0.01, 0.235]]
    return {
        **_placed((([0, 1], row) for row in rows), is_fixed=True), "height": 1460,
        "margin": {"l": 30, "r": 8, "t": 138, "b": 170}, "dragmode": False,
        "legend": {"orientation": "h", "x": 0, "y": -0.03, "xanchor": "left", "yanchor": "top"},
    }  # fmt: skip


def _placed(places: Iterable[tuple[list[float], list[float]]], *, is_fixed: bool) -> dict[str, Any]:
    """The domains of the panels, and whether they can be zoomed."""
    found: dict[str, Any] = {}
    for number, domains in zip(_AXES.values(), places, strict=True):
        for axis, domain in zip("xy", domains, strict=True):
            name = f"{axis}axis{number}"
            found |= {f"{name}.domain": domain, f"{name}.fixedrange": is_fixed}
    return found
