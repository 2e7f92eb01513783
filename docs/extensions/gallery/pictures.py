"""The pictures of a pair."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from extensions.gallery.names import page_of
from extensions.gallery.verdicts import verdicts
from proxconnect.inspection import plots
from proxconnect.pairs import PAIRS, AnyPair

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MUS = (1.0, 2.0, 6.0)
"""The sharpnesses on cards, from soft to sharp."""

REACH = 2.5

BLANK = '<svg xmlns="http://www.w3.org/2000/svg"/>'


def card(pair: AnyPair) -> "Figure":
    """F over B without numbers, small."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6, 2.2), layout="constrained")
    x = torch.linspace(-REACH, REACH, 1001, dtype=torch.float64)
    for axes, part, function in zip(
        figure.subplots(2, 1, sharex=True), "FB", (pair.forward, pair.backward), strict=True
    ):
        mus = MUS if pair.sharpness else MUS[-1:]
        lowest = pair.sharpness.lowest if pair.sharpness else 0.0
        for mu, colour in zip(mus, plots.SHADES[part][-len(mus) :], strict=True):
            axes.plot(x, function(x, max(lowest, mu)), color=colour, linewidth=1.6)
        axes.axhline(0.0, color="#bbbbbb", linewidth=0.6, zorder=0)
        axes.axvline(0.0, color="#bbbbbb", linewidth=0.6, zorder=0)
        axes.set_ylabel(part, rotation=0, labelpad=8)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    figure.axes[0].set_ylim(-1.6, 1.6)
    low, high = figure.axes[1].get_ylim()
    figure.axes[1].set_ylim(min(low, -0.15), max(high, 1.2))
    return figure


def draw(folder: Path, saved: Collection[str] = ()) -> list[Path]:
    """Draw three pictures of each pair, write them as SVG files, and return their paths.

    Keep a picture that is newer than all code that draws. If `saved` names pairs, draw only those and write blank
    pictures for the others: their time is 0, so the next build replaces them.
    """
    age = max(
        path.stat().st_mtime for code in (plots.__file__, __file__) for path in Path(code).parents[1].rglob("*.py")
    )
    paths = []
    for name, pair in PAIRS.items():
        for what, make in (
            ("card", lambda pair=pair: card(pair)),
            ("curves", lambda pair=pair: plots.plot_pair(pair)),
            ("verdict", lambda name=name: verdicts(name)[len(verdicts(name)) // 2].plot()),
        ):
            paths.append(folder / f"{page_of(name)}-{what}.svg")
            if paths[-1].exists() and paths[-1].stat().st_mtime >= age:
                continue
            if name in (saved or PAIRS):
                plots.save(make(), paths[-1])
            else:
                paths[-1].write_text(BLANK)
                os.utime(paths[-1], (0, 0))
    return paths
