"""What the demo reports: a table of pairs, the sizes of the files, and results.json."""

import dataclasses
import json
import math
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from proxconnect.atomic import replacing
from proxconnect.training.experiment import ACTIVATIONS, Outcome
from proxconnect.training.shipping import Shipment

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = (("BW", "E2E"), ("BW", "FT"), ("BWA", "E2E"), ("BWA", "FT"))
"""Mode and start of each column of the table."""


def spread(accuracies: Sequence[float]) -> str:
    """Mean ± sample standard deviation in per cent; the mean alone of one run, a dash for none."""
    if not accuracies:
        return "-"
    percent = [100 * accuracy for accuracy in accuracies]
    mean = f"{statistics.mean(percent):.2f}"
    return mean if len(percent) == 1 else f"{mean} ± {statistics.stdev(percent):.2f}"


def table(outcomes: Sequence[Outcome], pairs: Sequence[str]) -> "Table":
    """Accuracies by pair, mode and start: with re-estimated batch norm, and in the line below it without."""
    from rich.table import Table

    seeds = len({outcome.run.seed for outcome in outcomes})
    result = Table(
        title=f"Test accuracy of the hard network in %, {'1 seed' if seeds == 1 else f'mean ± sd of {seeds} seeds'}",
        caption="Upper line: batch norm re-estimated for the hard weights. Lower line: before that.\n"
        "BW: binary weights. BWA: binary activations too. E2E: from scratch. FT: fine-tuned from fp.",
        caption_justify="left",
        title_justify="left",
    )
    result.add_column("pair", no_wrap=True)
    for mode, start in COLUMNS:
        result.add_column(f"{mode} {start}", justify="right", no_wrap=True)
    for pair in pairs:
        cells = []
        for mode, start in COLUMNS:
            chosen = [o for o in outcomes if (o.run.pair, o.run.mode, o.run.start) == (pair, mode, start)]
            after, before = ([getattr(o, f"accuracy_{when}") for o in chosen] for when in ("after", "before"))
            cells.append(f"{spread(after)}\n[dim]{spread(before)}[/dim]")
        result.add_row(pair, *cells, end_section=True)
    return result


def float_line(outcomes: Sequence[Outcome]) -> str:
    """The accuracy of the float network in one line."""
    return f"Float network (fp): {spread([o.accuracy_after for o in outcomes if o.run.is_float])} %"


def size_lines(shipment: Shipment, file: str) -> list[str]:
    """The sizes of the packed file and of its binary part against float, and the comparison of answers, in lines."""
    binary = shipment.binary_bits + shipment.binary_scales
    same = (
        "the same to the bit"
        if shipment.is_same
        else f"DIFFERENT: largest |Δ| {shipment.largest_difference:.3g}, {shipment.changed_classes} other classes"
    )
    return [
        f"File: {shipment.float_file:,} bytes float, {shipment.packed_file:,} in {file} "
        f"({shipment.float_file / shipment.packed_file:.1f}x smaller)",
        f"Binary layers: {shipment.binary_float:,} bytes float, {shipment.binary_bits:,} as bits "
        f"({shipment.binary_float / shipment.binary_bits:.1f}x smaller),",
        f"  {binary:,} with a float scale per channel ({shipment.binary_float / binary:.1f}x smaller)",
        f"Loaded in a fresh process, {shipment.answers} answers on the test set: {same}",
    ]


def results(
    outcomes: Sequence[Outcome], *, arguments: Mapping[str, Any], complete: bool, seconds: float,
    shipment: Shipment | None,
) -> dict[str, Any]:  # fmt: skip
    """Everything measured, as plain data: accuracies in [0, 1], losses in nats (None if not finite), seconds, bytes."""
    import proxconnect

    return {
        "complete": complete,
        "seconds": seconds,
        "arguments": dict(arguments),
        "activations": ACTIVATIONS,
        "versions": {
            "proxconnect": proxconnect.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "runs": [_record(outcome) for outcome in outcomes],
        "best": None if shipment is None else _proof(shipment),
    }


def _proof(shipment: Shipment) -> dict[str, Any]:
    difference = {"largest_difference": _finite(shipment.largest_difference), "same": shipment.is_same}
    return dataclasses.asdict(shipment) | difference


def _finite(number: float) -> float | None:
    """The number, or None for NaN and infinity, which JSON has not."""
    return number if math.isfinite(number) else None


def _record(outcome: Outcome) -> dict[str, Any]:
    return dataclasses.asdict(outcome.run) | {
        "accuracy": outcome.accuracy_after,
        "accuracy_before_reestimation": outcome.accuracy_before,
        "seconds": outcome.seconds,
        "epochs": [{"loss": _finite(epoch.loss), "accuracy": epoch.accuracy} for epoch in outcome.epochs],
    }


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write `content` to `path`, aside first and then renamed; ValueError for NaN and infinity."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
