"""Pictures of pairs, verdicts, training runs, studies, latents and latencies, as figures that no window shows.

Needs the extra `plots`. Every `plot_` function returns a `matplotlib.figure.Figure`; `save` writes one as a PNG or SVG
file. `interactive_catalogue` writes a page of its own, by plotly.
"""

from proxconnect.plots.figures import PAIR_COLOURS, SHADES, SUFFIXES, save
from proxconnect.plots.interactive import interactive_catalogue
from proxconnect.plots.latencies import plot_contests, plot_latencies
from proxconnect.plots.pairs import plot_catalogue, plot_pair
from proxconnect.plots.runs import plot_curves, plot_excesses, plot_latents
from proxconnect.plots.studies import plot_accuracies, plot_differences
from proxconnect.plots.verdicts import plot_verdict

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
    "plot_verdict",
    "save",
]
