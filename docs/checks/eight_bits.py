"""The tables of docs/binary-or-int8.md, made of what `benchmarks/why_not_int8.py --record` wrote."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RECORD = Path("benchmarks", "recorded", "why_not_int8.jsonl")

Entry = Mapping[str, Any]
"""A line of the record: one contender of one subject."""


def subjects(root: Path) -> dict[str, list[Entry]]:
    """The newest entry of each contender, by the title of its subject."""
    found: dict[str, dict[str, Entry]] = {}
    for line in (root / RECORD).read_text().splitlines():
        entry = json.loads(line)
        found.setdefault(entry["title"], {})[entry["contender"]] = entry
    return {title: list(entries.values()) for title, entries in found.items()}


def claims(root: Path) -> list[str]:
    """What the page says: its tables, and numbers of them in words."""
    resnet18, deit, resnet20, trained, minilm = (
        {entry["contender"]: entry for entry in subjects(root)[title]}
        for title in (
            *(f"{name}, untrained" for name in ("ResNet-18", "DeiT-tiny", "ResNet-20")),
            "ResNet-20, CIFAR-10 (JPEG)",
            "MiniLM, SST-2",
        )
    )
    openvino, onnx, bw, bwa = "OpenVINO int8", "ONNX Runtime int8", "packed BW, int8", "packed BWA, int8"
    dynamic = f"{onnx}, dynamic"

    def ms(network: Mapping[str, Entry], contender: str) -> str:
        return f"{milliseconds(network[contender]['latency']['median'])} ms"

    def megabytes(network: Mapping[str, Entry], contender: str) -> str:
        return f"{network[contender]['bytes'] / 1e6:.2f} MB"

    def shares(network: Mapping[str, Entry]) -> str:
        of = [f"{100 * network[contender]['accuracy']:.2f} %" for contender in ("torch float32", openvino, "packed BW")]
        return f"has {of[0]} in float32, {of[1]} in int8 and {of[2]} with binary weights"

    def memory(contender: str, key: str) -> str:
        return f"{resnet18[contender]['memory'][key] / 1e6:.0f} MB"

    return [
        *tables(root),
        shares(trained),
        shares(minilm),
        f"int8 takes {ms(minilm, dynamic)} (ONNX Runtime, dynamic), and the fastest packed form {ms(minilm, bw)}",
        f"MiniLM {megabytes(minilm, bw)} instead of {megabytes(minilm, openvino)}",
        f"takes {megabytes(trained, 'packed BW')} instead of {megabytes(trained, onnx)}, ResNet-18",
        f"OpenVINO's int8 takes {ms(resnet20, openvino)}, the fastest packed form {ms(resnet20, bwa)}",
        f"holds {memory(bwa, 'process')}. The process of ONNX Runtime's int8 network holds {memory(onnx, 'process')}",
        f"{memory(bwa, 'held')} of its process, the int8 network {memory(onnx, 'held')}",
        f"ResNet-18 takes {ms(resnet18, 'packed BW')}. In OpenVINO's int8 it takes {ms(resnet18, openvino)}",
        f"takes {megabytes(resnet18, bwa)} instead of {megabytes(resnet18, onnx)}, DeiT-tiny {megabytes(deit, bwa)} "
        f"instead of {megabytes(deit, onnx)}",
        f"takes {ms(resnet18, bwa)}, and the fastest int8 takes {ms(resnet18, openvino)}. On DeiT-tiny the times are "
        f"{ms(deit, bwa)} and {ms(deit, openvino)}",
        f"{ms(resnet18, bw)} and {ms(resnet18, openvino)} on ResNet-18, {ms(deit, bw)} and {ms(deit, openvino)} on "
        "DeiT-tiny",
    ]


def tables(root: Path) -> list[str]:
    """The lines of all tables."""
    return [line for title, entries in subjects(root).items() for line in table(title, entries)]


def table(title: str, entries: Sequence[Entry]) -> list[str]:
    """The lines in Markdown; the column of accuracies is left out where nothing was tested."""
    tested = entries[0]["tested"] > 0
    heads = [
        title,
        *(["accuracy, %"] if tested else []),
        "ms",
        "quartiles",
        "MB on disk",
        "MB held",
        "at most",
        "process",
    ]
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for entry in entries:
        low, median, high = (milliseconds(entry["latency"][key]) for key in ("low", "median", "high"))
        sizes = entry["bytes"], *(entry["memory"][key] for key in ("held", "peak", "process"))
        cells = [
            entry["contender"], *([f"{100 * entry['accuracy']:.2f}"] if tested else []), median, f"{low} to {high}",
            *(f"{size / 1e6:.{digits}f}" for size, digits in zip(sizes, (2, 0, 0, 0), strict=True)),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def milliseconds(seconds: float) -> str:
    """In three digits."""
    return f"{1e3 * seconds:#.3g}"


if __name__ == "__main__":
    print(*tables(Path(__file__).parents[2]), sep="\n")
