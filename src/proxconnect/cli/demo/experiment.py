"""One run: a pair, a mode, a start and a seed, from data to the hard network."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from proxconnect._support.atomic import replacing
from proxconnect.cli.binarization import ACTIVATIONS
from proxconnect.conversion import binarize
from proxconnect.deploy.hardening import reestimate_batchnorm
from proxconnect.layers import Accumulator
from proxconnect.optim.sharpening import Sharpening
from proxconnect.training import data
from proxconnect.training.data import Dataset
from proxconnect.training.models.residual import bireal_resnet20, small_cnn
from proxconnect.training.study.rows import CHECKPOINT

Mode = Literal["float", "BW", "BWA", "BWAA"]
Start = Literal["E2E", "FT"]

ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "digits": small_cnn,
    "fashion-mnist": partial(bireal_resnet20, in_channels=1, stem_stride=2),
}


@dataclass(frozen=True)
class Run:
    """One training run of the demo: its forward-backward pair, mode, start and seed.

    `mode` says what is binary: nothing ("float"), weights ("BW"), activations too ("BWA"), and with sums in the narrow
    `accumulator` ("BWAA"; it is None in the other modes). `start` is "E2E" for training from scratch, or "FT" for
    training from the float network of the same seed.
    """

    pair: str
    mode: Mode
    start: Start
    seed: int
    accumulator: Accumulator | None = None

    @property
    def is_float(self) -> bool:
        """True if this run trains the float network."""
        return self.mode == "float"

    def __str__(self) -> str:
        return f"fp, seed {self.seed}" if self.is_float else f"{self.pair} {self.mode} {self.start}, seed {self.seed}"


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters of a run with AdamW, the same for every pair; the learning rate falls to 0 as a cosine."""

    epochs: int
    batch_size: int = 128
    learning_rate: float = 5e-3
    weight_decay: float = 1e-4
    hold: float = 0.1
    """The share of steps, at the end of training, in which μ stays at its last value."""


RECIPES = {"digits": Recipe(epochs=10), "fashion-mnist": Recipe(epochs=6)}


def recipe_of(data: str, epochs: int | None) -> Recipe:
    """Return the hyperparameters for `data`, a key of `RECIPES`; `epochs` replaces theirs unless it is None."""
    return RECIPES[data] if epochs is None else replace(RECIPES[data], epochs=epochs)


def run_row(configuration: dict[str, Any], folder: Path, on_progress: Callable[[tuple[int, int]], None]) -> Any:
    """Train the run of a configuration, write its state dict into `folder`, and return the measurements of `train`.

    It is the row function of the demo's study; `Options.runs` makes the configurations. For FT, their "start" is the
    checkpoint of the float network. After each epoch `on_progress` gets the numbers of epochs done and of all.
    """
    run, sums, root = Run(**configuration["run"]), configuration["run"]["accumulator"], configuration["root"]
    run = replace(run, accumulator=sums and Accumulator(**sums))
    recipe, start = Recipe(**configuration["recipe"]), configuration.get("start")
    dataset = data.load(configuration["data"], root and Path(root))
    initial = start and load_file(start)
    model, measured = train(run, recipe, dataset, initial, lambda done: on_progress((done, recipe.epochs)))
    with replacing(folder / CHECKPOINT) as temporary:
        save_file(model.state_dict(), temporary)
    return measured


def build(run: Run, data: str, initial: dict[str, Tensor] | None = None) -> nn.Module:
    """Seed torch with `run.seed`, and return the untrained network of `run`, binarized unless the run is a float one.

    `data` is a key of `ARCHITECTURES`, and `initial` the state dict of a float network to start from; None for random
    weights.
    """
    torch.manual_seed(run.seed)
    model = ARCHITECTURES[data]()
    if initial is not None:
        model.load_state_dict(initial)
    if run.is_float:
        return model
    activations = None if run.mode == "BW" else ACTIVATIONS
    return binarize(model, weights=run.pair, activations=activations, accumulator=run.accumulator)


def restore(run: Run, data: str, checkpoint: Path) -> nn.Module:
    """Return the trained network of a run on `data`, in `eval()`, from the `checkpoint` that `run_row` wrote."""
    model = build(run, data)
    model.load_state_dict(load_file(checkpoint))
    return model.eval()


def train(
    run: Run, recipe: Recipe, dataset: Dataset, initial: dict[str, Tensor] | None = None,
    on_epoch: Callable[[int], None] = lambda _: None,
) -> tuple[nn.Module, dict[str, Any]]:  # fmt: skip
    """Train the network of `run`, and return it in `eval()` with its measurements on the test set.

    Their key "accuracy" holds the accuracy in [0, 1] of the hard network after ("reestimated") and before ("hard")
    batch norm was re-estimated, both alike for a float run; "curve" the mean training "loss" in nats and the "accuracy"
    of each epoch; "seconds" the time.

    `initial` is the state dict of the float network, needed for FT and refused for E2E (ValueError). `on_epoch` is
    called after each epoch with the number of epochs done. ValueError if the training images fill no batch.
    """
    if (run.start == "FT") != (initial is not None):
        raise ValueError(f"{run}: FT starts from the state of a float network, E2E from none")
    began, count = time.perf_counter(), len(dataset.train_labels)
    if count < recipe.batch_size:
        raise ValueError(f"{count} training images fill no batch of {recipe.batch_size}")
    model = build(run, dataset.name, initial)
    steps = recipe.epochs * (count // recipe.batch_size)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    if not run.is_float:
        Sharpening(optimizer, model, steps=steps, hold=math.floor(recipe.hold * steps))
    order = torch.Generator().manual_seed(run.seed)
    epochs = []
    for done in range(1, recipe.epochs + 1):
        model.train()
        losses = []
        for images, labels in batches(dataset, recipe, order):
            loss = functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        before = after = accuracy(model, dataset.test_images, dataset.test_labels)
        epochs.append({"loss": math.fsum(losses) / len(losses), "accuracy": before})
        on_epoch(done)
    if not run.is_float:
        reestimate_batchnorm(model, (images for images, _ in batches(dataset, recipe, order)))
        after = accuracy(model, dataset.test_images, dataset.test_labels)
    shares = {"reestimated": after, "hard": before}
    return model.eval(), {"accuracy": shares, "curve": epochs, "seconds": time.perf_counter() - began}


def batches(dataset: Dataset, recipe: Recipe, order: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the full batches of one epoch: training images (B, 1, H, W) and labels (B,) in an order drawn from `order`.

    Images that remain in the end and fill no batch are left out.
    """
    shuffled = torch.randperm(len(dataset.train_labels), generator=order)
    for chosen in shuffled.split(recipe.batch_size):
        if len(chosen) == recipe.batch_size:
            yield dataset.train_images[chosen], dataset.train_labels[chosen]


@torch.no_grad()
def answers(model: nn.Module, images: Tensor) -> Tensor:
    """Switch `model` to `eval()`, and return its logits (N, classes) for `images` (N, 1, H, W)."""
    model.eval()
    return torch.cat([model(batch) for batch in torch.split(images, 500)])


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Switch `model` to `eval()`, and return its accuracy in [0, 1] on `images` (N, 1, H, W) with `labels` (N,)."""
    return (answers(model, images).argmax(1) == labels).double().mean().item()
