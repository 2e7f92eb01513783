"""Whole networks beside other engines, as `benchmarks/runtime.py --record` wrote them, in the tables of the pages."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

RECORD = Path("benchmarks", "recorded", "runtime.jsonl")

CLASSES = ("amx", "avx512", "avx2")
"""The best instruction sets of the processors, each with a table."""

NETWORKS = {
    "Bi-Real ResNet-18": "Bi-Real ResNet-18", "resnet18": "ResNet-18", "deit_tiny": "DeiT-tiny",
    "mobilenet_v2": "MobileNetV2", "MiniLM": "MiniLM, 128 tokens",
}  # fmt: skip
"""How titles begin, and what the tables call them."""

RIVALS = (("float",), ("ONNX Runtime", "ONNX Runtime int8"), ("OpenVINO", "OpenVINO int8"))
BINARY_RIVALS = ("OpenVINO binary", "OpenVINO binary+int8")
FORMS = ("", ", fast floats", ", int8")
"""The columns of packed forms, by what follows "packed BW" or "packed BWA" in their names."""

HEAD = [
    "| ms | torch | ONNX Runtime, int8 | OpenVINO, int8 | OpenVINO binary, +int8 | packed | fast floats | int8 |",
    "|---|---|---|---|---|---|---|---|",
]


class Runs(NamedTuple):
    """All runs of the program, on machines that others shared."""

    runs: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, root: Path) -> "Runs":
        """Those of this repository."""
        return cls([json.loads(line) for line in (root / RECORD).read_text().splitlines()])

    def contests(self, processor: str) -> list[Mapping[str, Any]]:
        """Of each contest on processors of a class, that of the run in which torch was quickest: others took least."""
        found: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
        for run in self.runs:
            if run["class"] == processor:
                for contest in run["contests"]:
                    found.setdefault((_network(contest["title"]), contest["batch"]), []).append(contest)
        return [min(several, key=lambda contest: _milliseconds(contest)["float"]) for several in found.values()]

    def times(self, processor: str) -> list[tuple[str, int, dict[str, float]]]:
        """Return network, batch and milliseconds by contender for each of these contests."""
        return [(_network(contest["title"]), contest["batch"], _milliseconds(contest))
                for contest in self.contests(processor)]  # fmt: skip

    def scaling(self) -> str:
        """By how much two threads are faster than one: the median, and the span of all runs."""
        found = [run["two_threads_by_one"]["median"] for run in self.runs if "two_threads_by_one" in run]
        middle, low, high = (f"{x:.1f}" for x in (statistics.median(found), min(found), max(found)))
        return f"{middle} times as fast ({low} to {high} in {len(found)} runs)"


def table(runs: Runs, processor: str) -> list[str]:
    """The lines in Markdown: ms of three digits, the fastest of a line in bold, shares of the limit behind."""
    lines = []
    for contest in runs.contests(processor):
        taken = _milliseconds(contest)
        for mode in ("BW", "BWA"):
            forms = [f"packed {mode}{form}" for form in FORMS]
            if forms[0] in taken:
                rivals = [*RIVALS, BINARY_RIVALS if mode == "BWA" else ()]
                shown = {name: taken[name] for names in [*rivals, forms] for name in names if name in taken}
                limits = contest.get("limits", {})
                cells = [", ".join(_written(shown, name, limits) for name in names if name in shown)
                         for names in [*rivals, *([form] for form in forms)]]  # fmt: skip
                batch = "" if contest["batch"] == 1 else f", {contest['batch']} at once"
                title = f"{_network(contest['title'])} {mode}{batch}"
                lines.append(" ".join(["|", title, *(f"| {cell}".strip() for cell in cells), "|"]))
    return lines


def _network(title: str) -> str:
    return next(name for start, name in NETWORKS.items() if title.startswith(start))


def _milliseconds(contest: Mapping[str, Any]) -> dict[str, float]:
    return {contender["name"]: 1e3 * contender["latency"]["median"] for contender in contest["contenders"]}


def _written(taken: Mapping[str, float], name: str, limits: Mapping[str, float]) -> str:
    text = f"{taken[name]:.0f}" if taken[name] >= 100 else f"{taken[name]:#.3g}"
    share = f" ({1e5 * limits[name] / taken[name]:.0f} %)" if name in limits else ""
    return (f"**{text}**" if taken[name] == min(taken.values()) else text) + share


if __name__ == "__main__":
    for processor in CLASSES:
        print(processor, "", *HEAD, *table(Runs.of(Path(__file__).parents[2]), processor), "", sep="\n")
