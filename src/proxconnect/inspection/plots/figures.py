"""Figures that no window shows, their colours, and how they are written."""

import os
from collections.abc import Sized
from typing import TYPE_CHECKING

from proxconnect._support import extras
from proxconnect._support.atomic import replacing
from proxconnect._support.paths import require_target

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHADES = {"F": ("#9ecae1", "#4292c6", "#08306b"), "B": ("#fdbe85", "#f16913", "#7f2704")}
"""Colours of F and of B by sharpness, soft to sharp."""

PAIR_COLOURS = {
    "fp": "#444444", "bc": "#0072b2", "pc": "#e69f00", "parq": "#8c6d31", "binaryrelax": "#56b4e9", "md": "#999933",
    "bnn": "#009e73", "bnn+": "#cc79a7", "bnn++": "#d62728", "poly": "#9467bd", "poly+": "#5e3c99", "ede": "#b2912f",
    "ede+": "#17becf", "clip+": "#7f3b08", "erf": "#a6d96a", "erf+": "#1b7837",
}  # fmt: skip
"""The colour of each pair in all pictures of runs."""

SUFFIXES = (".png", ".svg")
"""The kinds of files that `save` writes."""

REACH = 2.5
"""Functions are drawn on [-REACH, REACH]."""


def save(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Write `figure` to `path`, never half written, as PNG or SVG according to its suffix; ValueError for another."""
    target = require_target(path, "figure.png")
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"give a file that ends in {' or '.join(SUFFIXES)}, got {str(path)!r}")
    with replacing(target) as temporary:
        figure.savefig(temporary, format=suffix[1:], dpi=130)


def require_some(given: Sized, what: str) -> None:
    """Raise ValueError if `given` is empty; `what` names its items in the message, as "networks"."""
    if not given:
        raise ValueError(f"there is nothing to draw: give at least one of the {what}")


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty matplotlib figure of `width` by `height` inches that pyplot does not know and no window shows."""
    figure: Figure = extras.require("matplotlib.figure", "plots").Figure(figsize=(width, height), layout="constrained")
    return figure


def bare(axes: "Axes") -> None:
    """Hide the upper and the right side of the frame of `axes`."""
    axes.spines[["top", "right"]].set_visible(False)


def cross_at_zero(axes: "Axes") -> None:
    """Draw thin lines through x = 0 and y = 0, and hide the upper and the right side of the frame of `axes`."""
    axes.axhline(0.0, color="#bbbbbb", linewidth=0.6, zorder=0)
    axes.axvline(0.0, color="#bbbbbb", linewidth=0.6, zorder=0)
    bare(axes)
