"""Pictures of pairs, training runs, studies, latents and latencies, as figures that no window shows.

Needs the extra `plots`. Every `plot_` function returns a `matplotlib.figure.Figure`; `save` writes it as a PNG or SVG
file. `interactive_catalogue` writes an HTML page with plotly. `proxconnect.theory.plot_verdict` draws verdicts.
"""

from proxconnect.inspection.plots.figures import PAIR_COLOURS, SHADES, SUFFIXES, save
from proxconnect.inspection.plots.measurements import (
    plot_accuracies,
    plot_contests,
    plot_curves,
    plot_differences,
    plot_excesses,
    plot_latencies,
    plot_latents,
)
from proxconnect.inspection.plots.pairs import interactive_catalogue, plot_catalogue, plot_pair

__all__ = [
    "PAIR_COLOURS",
    "SHADES",
    "SUFFIXES",
    "interactive_catalogue",
    "plot_accuracies",
    "plot_catalogue",
    "plot_contests",
    "plot_curves",
    "plot_differences",
    "plot_excesses",
    "plot_latencies",
    "plot_latents",
    "plot_pair",
    "save",
]
