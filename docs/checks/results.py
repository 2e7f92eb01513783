"""The numbers of docs/results.md, made of the records of speed and size, of two ledgers, and of a study's page."""

import re
import statistics
from collections.abc import Mapping
from pathlib import Path

from checks.eight_bits import Entry, milliseconds, subjects
from checks.recorded import Study
from checks.speeds import CLASSES, Runs
from proxconnect.training.study.ledger import newest, read
from proxconnect.training.study.tables import REESTIMATED

TECHNIQUES = Path("studies", "techniques", "ledger.jsonl")

LONG = Path("studies", "cifar10", "README.md")
"""The page with the long rows, of which one is not finished and in no ledger yet."""

UNTRAINED = ("ResNet-18", "DeiT-tiny", "ResNet-20")

ENGINES = ("ONNX Runtime", "OpenVINO")

NAMES = dict(zip(CLASSES, ("AMX", "AVX-512", "AVX2"), strict=True))

COLUMNS = (
    ("ONNX Runtime", "OpenVINO"),
    ("ONNX Runtime int8", "OpenVINO int8"),
    ("OpenVINO binary", "OpenVINO binary+int8"),
    ("packed BW, int8",),
    ("packed BWA, int8",),
)
"""The contenders of each column of the table of speeds, of which the fastest counts."""

TRAINED = {
    "float32, torch": "torch float32",
    "float32, OpenVINO": "OpenVINO float32",
    "int8, ONNX Runtime": "ONNX Runtime int8",
    "int8, OpenVINO": "OpenVINO int8",
    "packed, binary weights": "packed BW",
    "the same, remainder in int8": "packed BW, int8",
}
"""The lines on the trained network, by what the page calls them."""


def claims(root: Path) -> list[str]:
    """Return the lines of the page with numbers."""
    study, runs = Study.of(root), Runs.of(root)
    tables = [*trained(root), *lost(study), *short_runs(root), *sizes(root), *speeds(runs)]
    return [*tables, long_row(root), *in_short(root, study, runs)]


def in_short(root: Path, study: Study, runs: Runs) -> list[str]:
    """Return the ranges with which the page begins."""
    points = [re.findall(r"([\d.]+) ±", line)[1:] for line in [*lost(study), *short_runs(root)]]
    weights, inputs = [float(row[0]) for row in points], [float(row[1]) for row in points if len(row) > 1]
    rounded = [float(study.lost(f"{network} BW PTQ", f"{network} float").split()[0]) for network in ("resnet", "vit")]
    files = [untrained(root, title) for title in UNTRAINED]
    smaller = [entries["ONNX Runtime int8"]["bytes"] / entries["packed BW, int8"]["bytes"] for entries in files]
    weights_faster, inputs_faster = faster(runs, "BW"), faster(runs, "BWA")
    return [
        f"cost {min(weights)} to {max(weights)} points of accuracy",
        f"costs {min(rounded)} to {max(rounded)} points",
        f"cost {min(inputs)} to {max(inputs)} points",
        f"{min(smaller):.1f} to {max(smaller):.1f} times smaller than the int8 file",
        f"at most {max(weights_faster):.1f} times as fast as int8",
        f"{min(inputs_faster):.1f} to {max(inputs_faster):.1f} times as fast as int8",
    ]


def faster(runs: Runs, mode: str) -> list[float]:
    """Return how many times as fast as the fastest int8 engine packed networks are, without MobileNetV2."""
    timed = [
        taken
        for processor in CLASSES
        for network, batch, taken in runs.times(processor)
        if batch == 1 and network != "MobileNetV2" and f"packed {mode}, int8" in taken
    ]
    return [min(taken[f"{engine} int8"] for engine in ENGINES) / taken[f"packed {mode}, int8"] for taken in timed]


def untrained(root: Path, title: str) -> dict[str, Entry]:
    """Return the entries of a network with random weights, by contender."""
    return {entry["contender"]: entry for entry in subjects(root)[f"{title}, untrained"]}


def trained(root: Path) -> list[str]:
    """Return the lines on one trained network, whose file was timed and tested."""
    entries = {entry["contender"]: entry for entry in subjects(root)["ResNet-20, CIFAR-10 (JPEG)"]}
    return [
        f"| {name} | {100 * entry['accuracy']:.2f} | {milliseconds(entry['latency']['median'])} | "
        f"{entry['bytes'] / 1e6:.2f} | {entry['memory']['process'] / 1e6:.0f} |"
        for name, entry in ((name, entries[contender]) for name, contender in TRAINED.items())
    ]


def lost(study: Study) -> list[str]:
    """Return the lines on accuracies of the study on Fashion-MNIST: bnn++, from scratch, less its float network."""
    lines = []
    for title, network, modes in (("CNN", "resnet", ("BW", "BWA", "BWAA")), ("ViT", "vit", ("BW",))):
        shown = [study.lost(f"{network} {mode} E2E bnn++", f"{network} float") for mode in modes]
        shown += ["–"] * (3 - len(shown))
        lines.append(f"| {title}, Fashion-MNIST | {study.accuracy(f'{network} float')} | {' | '.join(shown)} |")
    return lines


def short_runs(root: Path) -> list[str]:
    """Return the line on the plain rows of the study of techniques, each less the float network of its seed."""
    found: dict[str, dict[str, float]] = {}
    for entry in newest(read(root / TECHNIQUES)):
        if entry.labels["technique"] in ("none", "plain"):
            value = entry.figure(REESTIMATED)
            assert value is not None
            found.setdefault(entry.labels["mode"], {})[entry.labels["seed"]] = 100 * value
    floats, shown = list(found["float BW"].values()), []
    for mode in ("BW", "BWA"):
        below = [found[f"float {mode}"][seed] - value for seed, value in found[mode].items()]
        shown.append(f"{statistics.fmean(below):.1f} ± {statistics.stdev(below):.1f}")
    float_cell = f"{statistics.fmean(floats):.1f} ± {statistics.stdev(floats):.1f}"
    return [f"| ResNet-20, CIFAR-10 (JPEG) | {float_cell} | {' | '.join(shown)} | – |"]


def sizes(root: Path) -> list[str]:
    """Return the lines on the megabytes of files."""
    forms = ("torch float32", "ONNX Runtime int8", "packed BW", "packed BW, int8")
    lines = []
    for title in UNTRAINED:
        entries = untrained(root, title)
        megabytes = [f"{entries[form]['bytes'] / 1e6:.2f}" for form in forms]
        lines.append(f"| {title} | {' | '.join(megabytes)} |")
    return lines


def speeds(runs: Runs) -> list[str]:
    """Return the lines on milliseconds of one input: other engines at their fastest, and packed networks."""
    return [
        f"| {network} | {NAMES[processor]} | {' | '.join(cells(taken))} |"
        for processor in CLASSES
        for network, batch, taken in runs.times(processor)
        if batch == 1
    ]


def cells(taken: Mapping[str, float]) -> list[str]:
    """Return the cells of a line by `COLUMNS`, the fastest in bold; a dash where nothing was timed."""
    best = [min((taken[name] for name in names if name in taken), default=None) for names in COLUMNS]
    fastest = min(time for time in best if time is not None)
    texts = ["–" if time is None else f"{time:#.3g}" for time in best]
    return [f"**{text}**" if time == fastest else text for time, text in zip(best, texts, strict=True)]


def long_row(root: Path) -> str:
    """Return what the page says of the row with binary inputs that is not finished, as its study says it."""
    found = re.search(r"At epoch (\d+) of (\d+) it has ([\d.]+) %", (root / LONG).read_text())
    assert found, f"{LONG} no longer tells of the row that is not finished: read its accuracy from the ledger"
    epoch, epochs, accuracy = found.groups()
    return f"{accuracy} % at epoch {epoch} of {epochs}"


if __name__ == "__main__":
    print(*claims(Path(__file__).parents[2]), sep="\n")
