"""Whole networks beside other engines, as `benchmarks/runtime.py --record` wrote them, as README's table has them."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

RECORD = Path("benchmarks", "recorded", "runtime.jsonl")

ROWS: Mapping[str, Sequence[str]] = {
    "torch float32": ["float"],
    "ONNX Runtime float32, int8": ["ONNX Runtime", "ONNX Runtime int8"],
    "OpenVINO float32, int8": ["OpenVINO", "OpenVINO int8"],
    "OpenVINO binary, the rest float32 or int8": ["OpenVINO binary", "OpenVINO binary+int8"],
    "**packed**, binary weights and activations": ["packed", "packed BWA"],
    'the same, `floats="fast"`': ["packed, fast floats", "packed BWA, fast floats"],
    'the same, `remainder="int8"` (DeiT: and fast floats)': ["packed, int8 remainder", "packed BWA, int8"],
    "**packed**, binary weights (fast floats are the default there)": ["packed BW"],
    'the same, `inputs="int8", remainder="int8"`': ["packed BW, int8"],
}
"""The lines of the table, and the contenders of a line, of which a column has those that it has."""


class Runs(NamedTuple):
    """All runs of the program on one machine, which others shared."""

    runs: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, root: Path) -> "Runs":
        """Those of this repository."""
        return cls([json.loads(line) for line in (root / RECORD).read_text().splitlines()])

    def columns(self) -> list[dict[str, float]]:
        """Milliseconds of each contender, by contest, of the run in which torch was quickest: others took least."""
        contests = zip(*(run["contests"] for run in self.runs), strict=True)
        return [min(map(_milliseconds, several), key=lambda column: column["float"]) for several in contests]

    def scaling(self) -> str:
        """By how much two threads are faster than one: the median, and the span of all runs."""
        found = [run["two_threads_by_one"]["median"] for run in self.runs]
        middle, low, high = (f"{x:.1f}" for x in (statistics.median(found), min(found), max(found)))
        return f"{middle} times as fast ({low} to {high} in {len(found)} runs)"

    def megabytes(self, network: str, form: str) -> str:
        """How large its file is."""
        return f"{self.runs[-1]['sizes'][network]['files'][form] / 1e6:#.3g}"


def table(runs: Runs) -> list[str]:
    """The lines in Markdown: milliseconds of three digits, the fastest of a column in bold."""
    columns = runs.columns()
    lines = []
    for title, names in ROWS.items():
        cells = (", ".join(_written(column, name) for name in names if name in column) for column in columns)
        lines.append(" ".join(["|", title, *(f"| {cell}".strip() for cell in cells), "|"]))
    return lines


def _milliseconds(contest: Mapping[str, Any]) -> dict[str, float]:
    return {contender["name"]: 1e3 * contender["latency"]["median"] for contender in contest["contenders"]}


def _written(column: Mapping[str, float], name: str) -> str:
    text = f"{column[name]:.0f}" if column[name] >= 100 else f"{column[name]:#.3g}"
    return f"**{text}**" if column[name] == min(column.values()) else text
