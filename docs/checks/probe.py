"""The table of studies/bnn_plus_plus/README.md: networks and loops between the probe and the study, by the ledger."""

import math
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

from checks.recorded import signed
from proxconnect.training.study.ledger import Entry, newest, read
from proxconnect.training.study.tables import REESTIMATED, quantile

LEDGER = Path("studies") / "bnn_plus_plus" / "ledger.jsonl"

PLACES = {
    "network of the probe": ("probe", "probe"),
    "stem of stride 2": ("stem of stride 2", "probe"),
    "and 18 convolutions": ("and 18 convolutions", "probe"),
    "and Bi-Real order": ("and Bi-Real order", "probe"),
    "and PReLU: network of the study": ("study", "probe"),
    "and its loop": ("study", "study"),
}
"""The networks and loops with binary weights that the page compares, by its names for them."""

PAIRS = ("bnn++", "bnn+", "bnn+ moved")

SEEDS = 3
"""The usual number of seeds, which the lines leave out."""

Values = Mapping[str, float]
"""Numbers by seed."""


def table(root: Path) -> list[str]:
    """The lines of the table."""
    entries = list(newest(read(root / LEDGER)))
    return [line(name, *place, entries) for name, place in PLACES.items()]


def line(name: str, network: str, loop: str, entries: list[Entry]) -> str:
    """One network and loop: the accuracy of bnn++, and the leads over bnn+ at a fixed and at a moving μ."""
    ours, fixed, moved = (
        {entry.labels["seed"]: entry for entry in entries if entry.labels | wanted == entry.labels}
        for wanted in ({"mode": "BW", "network": network, "loop": loop, "pair": pair} for pair in PAIRS)
    )
    mean = statistics.fmean(values(ours, accuracy).values())
    leads = [lead(values(ours, figure), values(other, figure), digits)
             for figure, other, digits in ((accuracy, fixed, 2), (loss, fixed, 3), (accuracy, moved, 2))]  # fmt: skip
    return f"| {name} | {mean:.1f} | {' | '.join(leads)} |"


def accuracy(entry: Entry) -> float:
    """The accuracy of the hard network in %."""
    value = entry.figure(REESTIMATED)
    assert value is not None
    return 100 * value


def loss(entry: Entry) -> float:
    """The mean training loss of the last epoch."""
    value: float = entry.measured["curve"][-1]["loss"]
    return value


def values(entries: Mapping[str, Entry], figure: Callable[[Entry], float]) -> Values:
    """The numbers of rows by seed."""
    return {seed: figure(entry) for seed, entry in entries.items()}


def lead(one: Values, other: Values, digits: int) -> str:
    """As +0.38 (+0.03 to +0.73), bold if the interval excludes 0; a dash if no seed has both rows."""
    differences = [one[seed] - other[seed] for seed in one if seed in other]
    if not differences:
        return "–"
    mean, seeds = statistics.fmean(differences), len(differences)
    text = signed(mean, digits)
    if seeds == 1:
        return f"{text}, 1 seed"
    half = quantile(seeds - 1) * statistics.stdev(differences) / math.sqrt(seeds)
    text = f"**{text}**" if abs(mean) > half else text
    note = "" if seeds == SEEDS else f", {seeds} seeds"
    return f"{text} ({signed(mean - half, digits)} to {signed(mean + half, digits)}){note}"
