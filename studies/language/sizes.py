"""What a binary weight costs in loss, in weights and in bytes: a picture and a table of the finished rows of core.yaml.

Run: python -m studies.language.sizes, which writes figures/loss-over-bytes.png and sizes.md beside the ledger.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from proxconnect._support.atomic import replacing
from proxconnect.inspection import plots
from proxconnect.training.study import ledger
from proxconnect.training.study.ledger import Entry

FOLDER = Path(__file__).parent

FILES = {"F16": "float, 16 bits", "Q8_0": "float rounded to 8.5 bits", "Q4_0": "float rounded to 4.5 bits"}
"""What files of float networks are called."""

EMBEDDINGS = {"channel": "embedding in 8 bits", "groups": "groups of 128", "all binary": "embedding binary, too"}
"""What files of binary networks with these scales are called."""


class Point(NamedTuple):
    """A network: its weights in matrices, the bytes of its file, and the loss of that, in nats a token."""

    weights: float
    bytes: float
    loss: float


def points(entries: Sequence[Entry]) -> dict[str, list[Point]]:
    """Return the networks that learned from text by the kind of their file, each a mean over seeds, by weights."""
    found: dict[str, dict[float, list[Point]]] = {}
    for entry in entries:
        if entry.labels["learns from"] == "text":
            for file, size in entry.measured["bytes"].items():
                point = Point(entry.measured["weights"], size, entry.measured["loss"][file])
                found.setdefault(_kind(entry, file), {}).setdefault(point.weights, []).append(point)
    return {kind: [_mean(sized[weights]) for weights in sorted(sized)] for kind, sized in found.items()}


def _kind(entry: Entry, file: str) -> str:
    return FILES.get(file) or f"{entry.labels['pair']}, {EMBEDDINGS[entry.labels['scales']]}"


def _mean(group: Sequence[Point]) -> Point:
    return Point(*(math.fsum(values) / len(group) for values in zip(*group, strict=True)))


def weights_for(loss: float, floats: Sequence[Point]) -> float | None:
    """Return how many weights a float network of this loss has, between two of `floats`; None beyond all of them.

    `floats` are ordered by weights. The logarithm of the weights is linear in the loss between two neighbours.
    """
    for small, large in pairwise(floats):
        if large.loss <= loss <= small.loss:
            share = (small.loss - loss) / (small.loss - large.loss)
            return small.weights * (large.weights / small.weights) ** share
    return None


def table(found: Mapping[str, Sequence[Point]]) -> str:
    """Return a Markdown table of all networks; the last column divides weights by those of a float one as good."""
    lines = ["| file | weights | MB | loss | times the weights of float |", "|---|---:|---:|---:|---:|"]
    for kind, line in found.items():
        for point in line:
            equal = None if kind in FILES.values() else weights_for(point.loss, found.get(FILES["F16"], []))
            times = "" if equal is None else f"{point.weights / equal:.1f}"
            lines.append(
                f"| {kind} | {point.weights / 1e6:.1f} M | {point.bytes / 1e6:.2f} | {point.loss:.3f} | {times} |"
            )
    return "\n".join(lines) + "\n"


def draw(found: Mapping[str, Sequence[Point]]) -> Figure:
    """Draw the loss over the bytes of the file, a line for each kind of file."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="MB on disk", ylabel="loss a token on held-out text, nats", xscale="log")
    for kind, line in found.items():
        style = {"linestyle": "--", "marker": "s"} if kind in FILES.values() else {"marker": "o"}
        axes.plot([point.bytes / 1e6 for point in line], [point.loss for point in line], label=kind, **style)
    for set_formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        set_formatter("{x:g}")
    axes.legend(fontsize="small")
    return figure


def main() -> None:
    """Write the table and the picture."""
    found = points(ledger.newest(ledger.read(FOLDER / "ledger.jsonl")))
    with replacing(FOLDER / "sizes.md") as temporary:
        temporary.write_text(table(found), encoding="utf-8")
    (FOLDER / "figures").mkdir(exist_ok=True)
    plots.save(draw(found), FOLDER / "figures" / "loss-over-bytes.png")


if __name__ == "__main__":
    main()
