"""From the best run to a file, and the proof that a process that has only the file gives the same answers."""

import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from proxconnect._support import processes
from proxconnect.cli.bench.timing import Spread, interleaved, threads
from proxconnect.cli.demo.experiment import Run, answers, build
from proxconnect.deploy import packed
from proxconnect.deploy.packed import PackedLayer
from proxconnect.training import data

_ROUNDS = 51

FLOAT = Run("fp", "float", "E2E", 0)


class FreshProcessError(RuntimeError):
    """The fresh process could not answer from the file; the message holds its error."""


@dataclass(frozen=True)
class Shipment:
    """A packed file beside the float network, and how far its answers are from the trained network's.

    Sizes are in bytes, `*_latency` the median seconds of one image on one thread. `moved` is the largest |Δ| between
    the packed network here and in a fresh process.
    """

    run: Run
    float_file: int
    packed_file: int
    binary_float: int
    binary_bits: int
    binary_scales: int
    float_latency: float
    packed_latency: float
    answers: int
    largest_difference: float
    changed_classes: int
    moved: float

    @property
    def is_same(self) -> bool:
        """True if the file moved without changing a bit of an answer, and classifies as the trained network does."""
        return self.moved == 0.0 and self.changed_classes == 0

    def lines(self, file: str) -> list[str]:
        """Return in words the sizes of the file and of its binary part, the speed, and the comparison of answers."""
        binary, before, after = self.binary_bits + self.binary_scales, self.float_latency, self.packed_latency
        ratio = f"{before / after:.2f}x faster" if after < before else f"{after / before:.2f}x slower"
        within = f"|Δ| ≤ {self.largest_difference:.1g}"
        if self.moved:
            sameness = f"DIFFERENT from those before saving, |Δ| ≤ {self.moved:.1g}"
        elif self.changed_classes:
            sameness = f"DIFFERENT: {within}, {self.changed_classes} other classes"
        else:
            sameness = f"the same, {within}" if self.largest_difference else "the same to the bit"
        return [
            f"File: {self.float_file:,} bytes float, {self.packed_file:,} in {file} "
            f"({self.float_file / self.packed_file:.1f}x smaller)",
            f"Binary layers: {self.binary_float:,} bytes float, {self.binary_bits:,} as bits "
            f"({self.binary_float / self.binary_bits:.1f}x smaller),",
            f"  {binary:,} with a float scale per channel ({self.binary_float / binary:.1f}x smaller)",
            f"One image on one thread: {1e3 * before:.3f} ms float, {1e3 * after:.3f} ms packed ({ratio})",
            f"Loaded in a fresh process, {self.answers} answers on the test set: {sameness}",
        ]


def ship(run: Run, model: nn.Module, dataset: data.Dataset, root: Path | None, path: Path) -> Shipment:
    """Pack the trained network of `run`, save it to `path`, and compare the answers of a fresh process."""
    here = answers(model, dataset.test_images)
    small = packed.pack_layers(model)
    packed.save(small, path)
    there = _answers_elsewhere(path, dataset.name, root)
    layers = [module for module in small.modules() if isinstance(module, PackedLayer)]
    float_model = build(FLOAT, dataset.name).eval()
    image = dataset.test_images[:1]
    works = {"float": lambda: float_model(image), "packed": lambda: small(image)}
    with threads(1), torch.inference_mode():  # several threads only wait in networks so small
        times = interleaved(works, _ROUNDS, turn=0.002)
    return Shipment(
        run=run,
        float_file=len(save(float_model.state_dict())),
        packed_file=path.stat().st_size,
        binary_float=sum(layer.weight.nbytes for layer in layers),
        binary_bits=sum(layer.bits.nbytes for layer in layers),
        binary_scales=sum(layer.scale.nbytes for layer in layers),
        float_latency=Spread.of(times["float"]).median,
        packed_latency=Spread.of(times["packed"]).median,
        answers=len(here),
        largest_difference=(here - there).abs().max().item(),
        changed_classes=int((here.argmax(1) != there.argmax(1)).sum()),
        moved=(answers(small, dataset.test_images) - there).abs().max().item(),
    )


def _answers_elsewhere(path: Path, name: str, root: Path | None) -> Tensor:
    """Return the logits on the test set that a fresh Python process computes from the file at `path`."""
    worker = processes.start(_answer, path, name, root, torch.get_num_threads())
    try:
        found = worker.connection.recv()
    except EOFError:
        found = worker.death()
    finally:
        processes.end([worker])
    if isinstance(found, str):
        raise FreshProcessError(f"the fresh process failed to answer from {path}:\n{found}")
    return torch.tensor(found)


def _answer(connection: Connection, path: Path, name: str, root: Path | None, threads: int) -> None:
    torch.set_num_threads(threads)
    try:
        model = packed.load_layers(path, build(FLOAT, name))
        connection.send(answers(model, data.load(name, root).test_images).tolist())
    except Exception:
        connection.send(traceback.format_exc())
