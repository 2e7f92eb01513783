"""What the demo reports: a table of pairs, the sizes of the files, and results.json."""

import dataclasses
import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from proxconnect._support.atomic import replacing
from proxconnect._support.json_numbers import finite
from proxconnect.cli.demo.experiment import ACTIVATIONS, Outcome
from proxconnect.cli.demo.shipping import Shipment
from proxconnect.version import __version__

if TYPE_CHECKING:
    from rich.console import Group

COLUMNS = tuple((mode, start) for mode in ("BW", "BWA", "BWAA") for start in ("E2E", "FT"))
"""Mode and start of each column of the table that has runs."""


def spread(accuracies: Sequence[float], decimals: int) -> str:
    """Mean ± sample standard deviation in per cent; the mean alone of one run, a dash for none."""
    if not accuracies:
        return "-"
    percent = [100 * accuracy for accuracy in accuracies]
    mean = f"{statistics.mean(percent):.{decimals}f}"
    return mean if len(percent) == 1 else f"{mean}±{statistics.stdev(percent):.{decimals}f}"


def table(outcomes: Sequence[Outcome], pairs: Sequence[str]) -> "Group":
    """Accuracies by pair, mode and start: with re-estimated batch norm, and in the line below it without."""
    from rich import box
    from rich.console import Group
    from rich.table import Table

    seeds = len({outcome.run.seed for outcome in outcomes})
    # One image of a small test set is more than a second decimal, which six columns have no room for.
    columns = [c for c in COLUMNS if any((o.run.mode, o.run.start) == c for o in outcomes)]
    decimals = 1 if len(columns) > 4 else 2
    result = Table(
        title=f"Test accuracy of the hard network in %, {'1 seed' if seeds == 1 else f'mean ± sd of {seeds} seeds'}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 0, 0, 1),
    )
    result.add_column("pair", no_wrap=True)
    for mode, start in columns:
        result.add_column(f"{mode} {start}", justify="right", no_wrap=True)
    for pair in pairs:
        cells = []
        for mode, start in columns:
            chosen = [o for o in outcomes if (o.run.pair, o.run.mode, o.run.start) == (pair, mode, start)]
            after, before = ([getattr(o, f"accuracy_{when}") for o in chosen] for when in ("after", "before"))
            cells.append(f"{spread(after, decimals)}\n[dim]{spread(before, decimals)}[/dim]")
        result.add_row(pair, *cells)
    return Group(result, *_explanation(outcomes))


def _explanation(outcomes: Sequence[Outcome]) -> list[str]:
    lines = [
        "Upper line: batch norm re-estimated for the hard weights. Lower: before that.",
        "BW: binary weights. BWA: and activations. E2E: from scratch. FT: from fp.",
    ]
    limits = {str(o.run.accumulator) for o in outcomes if o.run.accumulator is not None}
    return [*lines, *(f"BWAA: BWA with sums held by this accumulator: {limit}." for limit in sorted(limits))]


def float_line(outcomes: Sequence[Outcome]) -> str:
    """The accuracy of the float network in one line."""
    return f"Float network (fp): {spread([o.accuracy_after for o in outcomes if o.run.is_float], 2)} %"


def shipment_lines(shipment: Shipment, file: str) -> list[str]:
    """The sizes of the packed file and of its binary part, its speed, and the comparison of answers, in lines."""
    binary = shipment.binary_bits + shipment.binary_scales
    return [
        f"File: {shipment.float_file:,} bytes float, {shipment.packed_file:,} in {file} "
        f"({shipment.float_file / shipment.packed_file:.1f}x smaller)",
        f"Binary layers: {shipment.binary_float:,} bytes float, {shipment.binary_bits:,} as bits "
        f"({shipment.binary_float / shipment.binary_bits:.1f}x smaller),",
        f"  {binary:,} with a float scale per channel ({shipment.binary_float / binary:.1f}x smaller)",
        _speed_line(shipment),
        f"Loaded in a fresh process, {shipment.answers} answers on the test set: {_sameness(shipment)}",
    ]


def _sameness(shipment: Shipment) -> str:
    """How the answers of the fresh process are to those of the trained network."""
    within = f"|Δ| ≤ {shipment.largest_difference:.1g}"
    if shipment.moved:
        return f"DIFFERENT from those before saving, |Δ| ≤ {shipment.moved:.1g}"
    if shipment.changed_classes:
        return f"DIFFERENT: {within}, {shipment.changed_classes} other classes"
    return f"the same, {within}" if shipment.largest_difference else "the same to the bit"


def _speed_line(shipment: Shipment) -> str:
    before, after = shipment.float_latency, shipment.packed_latency
    ratio = f"{before / after:.2f}x faster" if after < before else f"{after / before:.2f}x slower"
    return f"One image on one thread: {1e3 * before:.3f} ms float, {1e3 * after:.3f} ms packed ({ratio})"


def results(
    outcomes: Sequence[Outcome], *, arguments: Mapping[str, Any], complete: bool, seconds: float,
    shipment: Shipment | None,
) -> dict[str, Any]:  # fmt: skip
    """Everything measured, as plain data: accuracies in [0, 1], losses in nats (None if not finite), seconds, bytes."""
    return {
        "complete": complete,
        "seconds": seconds,
        "arguments": dict(arguments),
        "activations": ACTIVATIONS,
        "versions": {
            "proxconnect": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "runs": [_record(outcome) for outcome in outcomes],
        "best": None if shipment is None else _proof(shipment),
    }


def _proof(shipment: Shipment) -> dict[str, Any]:
    difference = {"largest_difference": finite(shipment.largest_difference), "same": shipment.is_same}
    return dataclasses.asdict(shipment) | difference


def _record(outcome: Outcome) -> dict[str, Any]:
    return dataclasses.asdict(outcome.run) | {
        "accuracy": outcome.accuracy_after,
        "accuracy_before_reestimation": outcome.accuracy_before,
        "seconds": outcome.seconds,
        "epochs": [{"loss": finite(epoch.loss), "accuracy": epoch.accuracy} for epoch in outcome.epochs],
    }


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write `content` to `path`, aside first and then renamed; ValueError for NaN and infinity."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
