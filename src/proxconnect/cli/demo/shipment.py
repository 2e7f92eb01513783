"""The packed file of a run: its size, its time, and its answers in another process."""

import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor, nn

from proxconnect._support import processes
from proxconnect.cli.answer import RunError
from proxconnect.cli.bench.timing import Spread, interleaved, threads
from proxconnect.cli.demo.experiment import ARCHITECTURES, Run, answers
from proxconnect.deploy import packed
from proxconnect.training import data
from proxconnect.training.data import Dataset


@dataclass(frozen=True)
class Shipment:
    """The comparison of a packed file with the float network in size and speed, and with the trained one in answers.

    Sizes are in bytes: of all float tensors and the packed file, and of the weights of the binary layers in float, as
    bits, and of their scales. A latency is the median number of seconds for one image on one thread.

    A fresh process computed the logits of `answers` test images from the file. `changed_classes` of them get another
    class than from the trained network. `largest_difference` is the largest absolute difference of a logit from the
    trained network's, whose largest is `largest_answer`, and `moved` that from the packed network before saving.
    """

    run: Run
    float_bytes: int
    packed_file: int
    binary_float: int
    binary_bits: int
    binary_scales: int
    float_latency: float
    packed_latency: float
    answers: int
    largest_difference: float
    largest_answer: float
    changed_classes: int
    moved: float

    @property
    def is_same(self) -> bool:
        """True if saving and loading changed no logit, and every test image gets the class of the trained network."""
        return self.moved == 0.0 and self.changed_classes == 0

    def lines(self, file: str) -> list[str]:
        """Return lines of text on sizes, speed and answers; `file` is the name of the packed file in the text."""
        binary, before, after = self.binary_bits + self.binary_scales, self.float_latency, self.packed_latency
        ratio = f"{before / after:.2f}x faster" if after < before else f"{after / before:.2f}x slower"
        if self.moved:
            sameness = f"DIFFERENT, by up to {self.moved:.1g} from the answers before it was saved"
        elif self.changed_classes:
            sameness = f"DIFFERENT: {self.changed_classes} of {self.answers} test images get another class"
        else:
            sameness = f"the same class for each of {self.answers} test images"
        return [
            f"All tensors: {self.float_bytes:,} bytes float, {self.packed_file:,} in {file} "
            f"({self.float_bytes / self.packed_file:.1f}x smaller)",
            f"Binary layers: {self.binary_float:,} bytes float, {self.binary_bits:,} as bits "
            f"({self.binary_float / self.binary_bits:.1f}x smaller),",
            f"  {binary:,} with a float scale per channel ({self.binary_float / binary:.1f}x smaller)",
            f"One image on one thread: {1e3 * before:.3f} ms float, {1e3 * after:.3f} ms packed ({ratio})",
            f"Loaded in a fresh process: {sameness}",
            f"  Outputs differ by at most {self.largest_difference:.1g}; "
            f"the largest output is {self.largest_answer:.2g}.",
        ]


def ship(run: Run, model: nn.Module, dataset: Dataset, root: Path | None, path: Path) -> Shipment:
    """Pack the trained network of `run` into `path`, load it in a fresh process, and compare size, speed and answers.

    `root` is the folder of the files of `dataset`, which the fresh process loads too; None for the default folder.
    RunError if the fresh process fails.
    """
    here = answers(model, dataset.test_images)
    small = packed.pack_layers(model)
    packed.save(small, path)
    there = _answers_elsewhere(path, dataset.name, root)
    layers = [module for module in small.modules() if isinstance(module, packed.PackedLayer)]
    float_model = ARCHITECTURES[dataset.name]().eval()
    image = dataset.test_images[:1]
    works = {"float": lambda: float_model(image), "packed": lambda: small(image)}
    with threads(1), torch.inference_mode():  # several threads only wait in networks so small
        times = interleaved(works, rounds=51, turn=0.002)
    return Shipment(
        run=run,
        float_bytes=sum(tensor.nbytes for tensor in float_model.state_dict().values()),
        packed_file=path.stat().st_size,
        binary_float=sum(layer.weight.nbytes for layer in layers),
        binary_bits=sum(layer.bits.nbytes for layer in layers),
        binary_scales=sum(layer.scale.nbytes for layer in layers),
        float_latency=Spread.of(times["float"]).median,
        packed_latency=Spread.of(times["packed"]).median,
        answers=len(here),
        largest_difference=(here - there).abs().max().item(),
        largest_answer=here.abs().max().item(),
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
        raise RunError(f"the fresh process failed to answer from {path}:\n{found}")
    return torch.tensor(found)


def _answer(connection: Connection, path: Path, name: str, root: Path | None, threads: int) -> None:
    torch.set_num_threads(threads)
    try:
        model = packed.load_layers(path, ARCHITECTURES[name]())
        connection.send(answers(model, data.load(name, root).test_images).tolist())
    except Exception:
        connection.send(traceback.format_exc())
