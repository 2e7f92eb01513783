"""What the README says in numbers, made again of what was recorded."""

from collections.abc import Mapping
from pathlib import Path

from checks.eight_bits import Entry, milliseconds, subjects
from checks.recorded import Study, networks

TRAINED, RESNET18, DEIT = "ResNet-20, CIFAR-10 (JPEG)", "ResNet-18, untrained", "DeiT-tiny, untrained"

LINES = (
    ("**ResNet-20**, trained on CIFAR-10 (JPEG): float32, ONNX Runtime", TRAINED, "ONNX Runtime float32"),
    ("int8, ONNX Runtime", TRAINED, "ONNX Runtime int8"),
    ("binary weights, proxconnect", TRAINED, "packed BW"),
    ("**ResNet-18** for 224 × 224 pixels, not trained: float32, OpenVINO", RESNET18, "OpenVINO float32"),
    ("int8, OpenVINO", RESNET18, "OpenVINO int8"),
    ("binary weights, the rest int8, proxconnect", RESNET18, "packed BW, int8"),
    ("binary weights and activations, the rest int8, proxconnect", RESNET18, "packed BWA, int8"),
)
"""What the lines of the first table say, and the subject and the contender of each."""


def claims(root: Path) -> list[str]:
    """The texts that must stand in the README."""
    found = {title: {entry["contender"]: entry for entry in entries} for title, entries in subjects(root).items()}
    trained, resnet18, deit = (found[title] for title in (TRAINED, RESNET18, DEIT))
    return [
        *(line(text, found[title][contender]) for text, title, contender in LINES),
        f"ResNet-20 is {points(trained['ONNX Runtime float32'], trained['packed BW'])} points below float",
        f"ResNet-18 takes {milliseconds(ours(resnet18))} ms. The same network wholly in int8 takes "
        f"{milliseconds(int8(resnet18))} ms",
        f"For DeiT-tiny the times are {milliseconds(ours(deit))} ms and {milliseconds(int8(deit))} ms",
        f"{networks(root)} networks of timm",
        f"In {len(Study.of(root).entries)} runs on Fashion-MNIST",
        f"bnn++ is {lead(root, 'E2E')} points better than the published bnn+ from scratch",
        f"In fine-tuning it is {lead(root, 'FT').removeprefix('-')} points worse if μ ends at 10",
        f"bnn++ is {lead(root, 'FT', 'bnn++ to 30', 'bnn+ at 0.5')} points ahead, which is within the noise",
    ]


def line(text: str, entry: Entry) -> str:
    """One line of the table: accuracy if there is one, megabytes of the file, milliseconds."""
    accuracy = f" {100 * entry['accuracy']:.2f} %" if entry["tested"] else ""
    latency = milliseconds(entry["latency"]["median"])
    return f"| {text} |{accuracy} | {entry['bytes'] / 1e6:.2f} MB | {latency} ms |"


def points(high: Entry, low: Entry) -> str:
    """How much more accurate one is, in points."""
    return f"{100 * (high['accuracy'] - low['accuracy']):.1f}"


def lead(root: Path, start: str, one: str = "bnn++", other: str = "bnn+") -> str:
    """What bnn++ has more than bnn+ on CIFAR-10 (JPEG), BW, in points; the ledger has each under several labels."""
    return f"{Study.of(root, 'cifar10').lead(one, other, f'resnet BW {start}').mean:.1f}"


def ours(network: Mapping[str, Entry]) -> float:
    """The latency with binary weights and activations, the rest int8."""
    return float(network["packed BWA, int8"]["latency"]["median"])


def int8(network: Mapping[str, Entry]) -> float:
    """The latency of the fastest network wholly in int8."""
    return float(network["OpenVINO int8"]["latency"]["median"])


if __name__ == "__main__":
    print(*claims(Path(__file__).parents[2]), sep="\n")
