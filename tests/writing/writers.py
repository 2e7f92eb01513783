"""Every writer of files of the library, each as a function that writes one of two versions into a folder."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from matplotlib.figure import Figure

import proxconnect as pc
from deploy.packed.packed_nets import binary_mlp
from proxconnect.cli.demo.demo import write_json
from proxconnect.export import to_floats
from proxconnect.inspection import plots
from proxconnect.training.study import running
from proxconnect.training.study.ledger import Entry, Ledger
from proxconnect.training.study.ledger import read as read_ledger
from proxconnect.training.study.rows import StudyRow, Workplace
from proxconnect.training.study.running import Order

Write = Callable[[Path, int], object]


def contents(folder: Path) -> dict[str, bytes]:
    """What the files of a folder hold, but for what a power cut may leave."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.startswith(".")}


@dataclass(frozen=True)
class Writer:
    """A writer: what makes the function, and what it wrote as a reader sees it."""

    prepare: Callable[[], Write]
    read: Callable[[Path], Any] = contents
    may_be: Callable[[Any, Any, Any], bool] = lambda found, old, new: found in (old, new)
    """Whether what is found after a power cut is what the writer promises."""


def models() -> list[Any]:
    torch.manual_seed(0)
    return [pc.pack(binary_mlp().eval()) for _ in range(2)]


def packed() -> Write:
    pair = models()
    return lambda folder, version: pc.save(pair[version], folder / "net.safetensors")


def plain_floats() -> Write:
    pair = models()
    return lambda folder, version: to_floats(pair[version], folder / "net.safetensors")


def report_of_demo() -> Write:
    return lambda folder, version: write_json({"version": version, "text": "long " * 5000}, folder / "results.json")


def picture(suffix: str) -> Write:
    figures = [Figure((1 + version, 1)) for version in (0, 1)]
    return lambda folder, version: plots.save(figures[version], folder / f"a{suffix}")


def interactive_page() -> Write:
    pairs = (["bc"], ["bnn"])
    return lambda folder, version: plots.interactive_catalogue(folder / "pairs.html", pairs[version])


def read_widths(folder: Path) -> dict[str, str | None]:
    """What tells one from the other, as an SVG file has its date and random names in it; it must be whole."""
    return {name: ElementTree.fromstring(text).get("width") for name, text in contents(folder).items()}


def checkpoint() -> Write:
    from proxconnect.training.checkpoints import WholeFiles

    def write(folder: Path, version: int) -> None:
        tensors = {"weight": torch.full((5000,), float(version)), "count": version}
        WholeFiles().save_checkpoint({"state_dict": tensors, "global_step": version}, folder / "last.ckpt")

    return write


def read_checkpoint(folder: Path) -> Any:
    return {
        path.name: [value.tolist() if isinstance(value, torch.Tensor) else value for value in whole.values()]
        for path in folder.iterdir() if not path.name.startswith(".")
        for whole in [torch.load(path, weights_only=True)["state_dict"]]
    }  # fmt: skip


def onnx() -> Write:
    from proxconnect.export.onnx import onnx_graph, write

    networks = [onnx_graph(model, torch.ones(2, 5), any_batch=False) for model in models()]
    return lambda folder, version: write(networks[version], folder / "net.onnx")


def openvino() -> Write:
    from proxconnect.export import openvino

    networks = [openvino.openvino_network(model, torch.ones(2, 5)) for model in models()]
    return lambda folder, version: openvino.write_network(networks[version], folder / "net.xml")


def hub() -> Write:
    from proxconnect.huggingface import save_pretrained

    pair = models()
    return lambda folder, version: save_pretrained(
        pair[version], folder, title=f"version {version}", pair="bnn++", architecture="MLP()"
    )


def entry(seed: int) -> Entry:
    row = StudyRow({"seed": str(seed)}, {"seed_everything": seed}, "a:b")
    measured = {"accuracy": {"hard": 0.5}, "text": "long " * 200}
    return Entry.of(row, measured, {"results": "0.1.0+1"}, "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z")


def ledger() -> Write:
    """Each version is a line of its own."""

    def write(folder: Path, version: int) -> None:
        with Ledger.writing(folder / "ledger.jsonl") as book:
            if entry(version).key not in book.entries:
                book.append(entry(version))

    return write


def read_lines(folder: Path) -> list[str]:
    return [one.labels["seed"] for one in read_ledger(folder / "ledger.jsonl")]


ROW = StudyRow({"seed": "0"}, {"seed_everything": 0}, f"{__name__}:row")
_measured = 0


def row(configuration: Any, folder: Path, on_progress: Any) -> dict[str, Any]:
    """What an order runs: `ROW`, which measures the version."""
    return {"accuracy": {"hard": 0.5}, "version": _measured}


def answer() -> Write:
    """Each version is a result of the same row."""

    def write(folder: Path, version: int) -> None:
        global _measured
        _measured = version
        entry = running.perform(Order(ROW, Workplace(folder), 1), lambda _: None)
        if isinstance(entry, running.Failed):
            raise OSError(entry.error)

    return write


def read_answer(folder: Path) -> Any:
    finished = Workplace(folder).finished(ROW)
    return json.loads(finished.read_text())["measured"]["version"] if finished.exists() else None


def failure() -> Write:
    one = StudyRow({"seed": "0"}, {"seed_everything": 0}, "a:b")

    def write(folder: Path, version: int) -> None:
        Workplace(folder).fail(one, f"error {version}\n" * 1000)

    return write


def read_failure(folder: Path) -> Any:
    return {path.name: contents(path) for path in folder.iterdir() if contents(path)}


def is_no_mix(first: str, second: str) -> Callable[[Any, Any, Any], bool]:
    """Whether what is found is old or new, or the second file alone, which without the first is not wrong."""

    def may_be(found: dict[str, bytes], old: dict[str, bytes], new: dict[str, bytes]) -> bool:
        alone = first not in found and found.get(second) in (old.get(second), new[second])
        return found in (old, new) or alone

    return may_be


def in_place() -> Write:
    return lambda folder, version: (folder / "net.bin").write_bytes(bytes([version]) * 9)


def unflushed() -> Write:
    def write(folder: Path, version: int) -> None:
        (folder / ".net.bin").write_bytes(bytes([version]) * 9)
        (folder / ".net.bin").replace(folder / "net.bin")

    return write


CARELESS = {"in place": Writer(in_place), "unflushed": Writer(unflushed)}
"""Writers that break the law."""

WRITERS = {
    "pc.save": Writer(packed),
    "to_floats": Writer(plain_floats),
    "checkpoint of fit": Writer(checkpoint, read_checkpoint),
    "ledger": Writer(ledger, read_lines),
    "finished.json": Writer(answer, read_answer),
    "error.txt": Writer(failure, read_failure),
    "results.json of the demo": Writer(report_of_demo),
    "picture .png": Writer(lambda: picture(".png")),
    "picture .svg": Writer(lambda: picture(".svg"), read_widths),
    "interactive_catalogue": Writer(interactive_page),
    "to_onnx": Writer(onnx),
    "to_openvino": Writer(openvino, may_be=is_no_mix("net.xml", "net.bin")),
    "save_pretrained": Writer(hub, may_be=is_no_mix("README.md", "model.safetensors")),
}
