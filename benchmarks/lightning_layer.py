"""What Lightning adds to the steps of the plain loop, for the networks of the study.

A step by Lightning and one of the plain loop take turns, so that a busy machine slows both alike, and their times are
summed over epochs. Everything between two steps counts, the batch included. "row" is a run as the study has it; "fit"
one from the command line, with its bar and logs.

Run: OMP_NUM_THREADS=1 python benchmarks/lightning_layer.py --rounds 9 [--steps 50] [--cpu-time]
"""

import argparse
import gc
import logging
import statistics
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import lightning
import torch
from rich.console import Console
from rich.table import Table
from torch.nn.functional import cross_entropy

import proxconnect as pc
from proxconnect._support.heap import keep_freed_memory
from proxconnect.training.configuration import Configured
from proxconnect.training.data.modules import SmallImages
from proxconnect.training.data.pictures import Splits, TensorPictures
from proxconnect.training.models import names
from proxconnect.training.row import QUIET
from proxconnect.training.schedules import Cosine

BATCH = 128
WARM_UP = 1
NETWORKS: dict[str, dict[str, Any]] = {
    "resnet20": {"name": "resnet20", "options": {"width": 8, "stem_stride": 2}},
    "small_vit": {"name": "small_vit"},
}
KINDS: dict[str, dict[str, Any]] = {"row": QUIET, "fit": {}}
Clock = Callable[[], float]


class Noise(SmallImages):
    """As many pictures of noise, 28 x 28, as `steps` batches take."""

    name, classes, in_channels, published_size = "noise", 10, 1, 28

    def __init__(self, steps: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.steps = steps

    def read(self) -> Splits[TensorPictures]:
        count = self.steps * self.batch_size
        images = torch.randint(256, (count, 1, 28, 28), dtype=torch.uint8)
        pictures = TensorPictures(images, torch.randint(10, (count,)))
        return Splits(pictures, pictures, self.classes)


class PlainLoop:
    """The loop that the module of the training system stands for; `next` of `epoch()` is a step."""

    def __init__(self, network: dict[str, Any], data: Noise, epochs: int) -> None:
        options = network.get("options", {})
        model = names.find(network["name"]).build(classes=10, in_channels=1, image_size=28, **options)
        self.network = pc.binarize(model, "bnn++", example=torch.randn(2, 1, 28, 28))
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=5e-3, weight_decay=1e-4)
        self.loader = data.train_dataloader()
        steps = epochs * len(self.loader)
        pc.Sharpening(self.optimizer, self.network, steps=steps, hold=steps // 10)
        self.schedule = Cosine(self.optimizer, steps)

    def epoch(self) -> Iterator[None]:
        losses = torch.zeros(())
        for images, labels in self.loader:
            loss = cross_entropy(self.network(images), labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            losses += loss.detach()
            yield


class TakingTurns(lightning.Callback):
    """Takes a step of the plain loop after each of Lightning's, and sums the seconds of both over each epoch."""

    def __init__(self, plain: PlainLoop, clock: Clock) -> None:
        self.plain, self.clock = plain, clock
        self.of_lightning: list[float] = []
        self.of_plain: list[float] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        self.of_lightning.append(0.0)
        self.of_plain.append(0.0)
        self.epoch = self.plain.epoch()
        gc.collect()
        gc.disable()
        self.since = self.clock()

    def on_train_batch_end(self, *_: Any) -> None:
        turn = self.clock()
        self.of_lightning[-1] += turn - self.since
        next(self.epoch)
        self.since = self.clock()
        self.of_plain[-1] += self.since - turn

    def on_train_epoch_end(self, *_: Any) -> None:
        gc.enable()


def measure(network: dict[str, Any], kind: str, options: argparse.Namespace) -> TakingTurns:
    """The seconds of each epoch, those of warm-up left out."""
    epochs = WARM_UP + options.rounds
    data = Noise(options.steps, batch_size=BATCH)
    turns = TakingTurns(PlainLoop(network, data, epochs), process_time if options.cpu_time else perf_counter)
    with TemporaryDirectory() as folder:
        run = Configured({
            "data": {"class_path": f"{Path(__file__).stem}.Noise",
                     "init_args": {"steps": options.steps, "batch_size": BATCH}},
            "model": {"network": network, "binary": {"weights": "bnn++"}},
            "trainer": {"max_epochs": epochs, "limit_val_batches": 0, "accelerator": "cpu", "default_root_dir": folder}
            | KINDS[kind],
        })  # fmt: skip
        run.trainer.callbacks.append(turns)  # the last: all others' work counts
        run.trainer.fit(run.model, datamodule=run.datamodule)
    del turns.of_lightning[:WARM_UP], turns.of_plain[:WARM_UP]
    return turns


def cells(turns: TakingTurns, steps: int) -> Sequence[str]:
    ratios = [a / b for a, b in zip(turns.of_lightning, turns.of_plain, strict=True)]
    tenths = statistics.quantiles(ratios, n=10, method="inclusive")
    by_lightning, plain = statistics.median(turns.of_lightning), statistics.median(turns.of_plain)
    return (
        f"{1000 * plain / steps:.2f}", f"{1000 * by_lightning / steps:.2f}", f"{by_lightning / plain:.3f}",
        f"{statistics.median(ratios):.3f}", f"{tenths[0]:.3f}-{tenths[-1]:.3f}",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--rounds", type=int, default=9, help="epochs of each, 2 or more (9)")
    parser.add_argument("--steps", type=int, default=50, help="of an epoch (50)")
    parser.add_argument("--cpu-time", action="store_true", help="time by the CPU, which a busy machine disturbs less")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    table = Table("network", "run")
    for heading in ("plain", "Lightning", "of medians", "in rounds", "10-90 %"):
        table.add_column(heading, justify="right")
    for name in options.only:
        for kind in options.kinds:
            table.add_row(name, kind, *cells(measure(NETWORKS[name], kind, options), options.steps))
    console = Console(width=80, highlight=False)
    console.print(
        f"Steps of {BATCH} images, 28x28; {options.rounds} epochs of {options.steps} steps each, one thread,\n"
        f"torch {torch.__version__}, Lightning {lightning.__version__}{', CPU time' if options.cpu_time else ''}",
        table,
        "Median ms of a step; in times of the plain loop's: the ratio of medians, the",
        "median and spread within rounds.",
        sep="\n",
    )


if __name__ == "__main__":
    main()
