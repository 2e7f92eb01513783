"""From the best run to a file, and the proof that the file gives the same answers in a process that has only the file.

`python -m proxconnect.cli.demo.shipping FILE DATA ROOT ANSWERS THREADS` is that process.
"""

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from proxconnect.cli.bench.timing import Spread, interleaved, threads
from proxconnect.cli.demo.experiment import Outcome, Run, answers, build, restore
from proxconnect.deploy import packed
from proxconnect.deploy.packed import PackedLayer
from proxconnect.training import data

_ROUNDS = 51


class FreshProcessError(RuntimeError):
    """The fresh process could not answer from the file; the message holds what it printed."""


@dataclass(frozen=True)
class Shipment:
    """A packed file beside the float network, and how far its answers are from the trained network's.

    Sizes in bytes. `binary_*` are those of the weights of binary layers alone: as floats, as bits, and their scales.
    `*_latency` are the median seconds of one image on one thread. `largest_difference` is the largest |Δ| of a logit on
    the test set, `changed_classes` counts other classifications; `moved` is the largest |Δ| between the packed network
    here and in a fresh process.
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
        """Whether the file moved without changing a bit of an answer, and classifies as the trained network does."""
        return self.moved == 0.0 and self.changed_classes == 0


def ship(outcome: Outcome, dataset: data.Dataset, root: Path | None, path: Path) -> Shipment:
    """Pack the network of `outcome`, save it to `path`, and compare the answers of a fresh process.

    FreshProcessError where that process fails.
    """
    from safetensors.torch import save

    model = restore(outcome, dataset.name)
    here = answers(model, dataset.test_images)
    small = packed.pack_layers(model)
    packed.save(small, path)
    there = _answers_elsewhere(path, dataset.name, root)
    layers = [module for module in small.modules() if isinstance(module, PackedLayer)]
    float_model = build(Run("fp", "float", "E2E", 0), dataset.name).eval()
    float_latency, packed_latency = _latencies(float_model, small, dataset.test_images[:1])
    return Shipment(
        run=outcome.run,
        float_file=len(save(float_model.state_dict())),
        packed_file=path.stat().st_size,
        binary_float=sum(layer.weight.nbytes for layer in layers),
        binary_bits=sum(layer.bits.nbytes for layer in layers),
        binary_scales=sum(layer.scale.nbytes for layer in layers),
        float_latency=float_latency,
        packed_latency=packed_latency,
        answers=len(here),
        largest_difference=(here - there).abs().max().item(),
        changed_classes=int((here.argmax(1) != there.argmax(1)).sum()),
        moved=(answers(small, dataset.test_images) - there).abs().max().item(),
    )


def _latencies(float_model: nn.Module, small: nn.Module, image: Tensor) -> tuple[float, float]:
    """The median seconds of both for one image, on one thread, since networks so small only wait for several."""
    works = {"float": lambda: float_model(image), "packed": lambda: small(image)}
    with threads(1), torch.inference_mode():
        times = interleaved(works, _ROUNDS, turn=0.002)
    return Spread.of(times["float"]).median, Spread.of(times["packed"]).median


def _answers_elsewhere(path: Path, name: str, root: Path | None) -> Tensor:
    """The logits on the test set that a fresh Python process computes from the file at `path`."""
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "answers.safetensors"
        command = [sys.executable, "-m", __name__, str(path), name, "" if root is None else str(root), str(written)]
        threads = str(torch.get_num_threads())
        done = subprocess.run([*command, threads], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise FreshProcessError(f"the fresh process failed to answer from {path}:\n{done.stderr.strip()}")
        return load_file(written)["answers"]


def _answer(path: str, name: str, root: str, written: str, threads: str) -> None:
    from safetensors.torch import save_file

    torch.set_num_threads(int(threads))
    dataset = data.load(name, Path(root) if root else None)
    model = packed.load_layers(path, build(Run("fp", "float", "E2E", 0), name))
    save_file({"answers": answers(model, dataset.test_images)}, written)


if __name__ == "__main__":
    _answer(*sys.argv[1:])
