"""One training run: a pair, a mode, a start and a seed, from data to the accuracy of the hard network."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from proxconnect._support.atomic import replacing
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
State = dict[str, Tensor]

ACTIVATIONS = "poly"
"""The pair of binary activations in BWA and BWAA: hard in the forward pass already, so no schedule moves it."""

ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "digits": small_cnn,
    "fashion-mnist": partial(bireal_resnet20, in_channels=1, stem_stride=2),
}


@dataclass(frozen=True)
class Run:
    """A network with weights by `pair`, trained from scratch (E2E) or from the float network of the same seed (FT).

    `accumulator` holds the sums of BWAA; it is None for the other modes.
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
    """Hyperparameters, the same for every pair: AdamW, cosine learning rate to 0, μ over its usual range."""

    epochs: int
    batch_size: int
    learning_rate: float = 5e-3
    weight_decay: float = 1e-4
    hold: float = 0.1
    """The share of steps at the end in which μ stays at its end."""


RECIPES = {
    "digits": Recipe(epochs=10, batch_size=128),
    "fashion-mnist": Recipe(epochs=6, batch_size=128),
}


class Outcome(NamedTuple):
    """The trained network, and its accuracies with hard weights before and after batch norm was re-estimated.

    `epochs` holds the mean "loss" in nats and the "accuracy" after each epoch.
    """

    model: nn.Module
    epochs: list[dict[str, float]]
    accuracy_before: float
    accuracy_after: float
    seconds: float


def run_row(configuration: dict[str, Any], folder: Path, on_progress: Callable[[tuple[int, int]], None]) -> Any:
    """Train and measure what `configuration` says, as a row of a study, and leave the network in `folder`."""
    run, sums, root = Run(**configuration["run"]), configuration["run"]["accumulator"], configuration["root"]
    run = replace(run, accumulator=sums and Accumulator(**sums))
    recipe, start = Recipe(**configuration["recipe"]), configuration.get("start")
    dataset = data.load(configuration["data"], root and Path(root))
    outcome = train(run, recipe, dataset, start and load_file(start), lambda done: on_progress((done, recipe.epochs)))
    with replacing(folder / CHECKPOINT) as temporary:
        save_file(outcome.model.state_dict(), temporary)
    accuracy = {"reestimated": outcome.accuracy_after, "hard": outcome.accuracy_before}
    return {"accuracy": accuracy, "curve": outcome.epochs, "seconds": outcome.seconds}


def build(run: Run, data: str, initial: State | None = None) -> nn.Module:
    """Return the network of `run`, initialised by its seed or with the float weights `initial`."""
    torch.manual_seed(run.seed)
    model = ARCHITECTURES[data]()
    if initial is not None:
        model.load_state_dict(initial)
    if run.is_float:
        return model
    activations = None if run.mode == "BW" else ACTIVATIONS
    return binarize(model, weights=run.pair, activations=activations, accumulator=run.accumulator)


def restore(run: Run, data: str, checkpoint: Path) -> nn.Module:
    """Return the trained network that a row left, in `eval()`."""
    model = build(run, data)
    model.load_state_dict(load_file(checkpoint))
    return model.eval()


def train(
    run: Run, recipe: Recipe, dataset: Dataset, initial: State | None = None,
    on_epoch: Callable[[int], None] = lambda _: None,
) -> Outcome:  # fmt: skip
    """Train `run` and measure it. Calls `on_epoch` with the number of epochs that are done."""
    if (run.start == "FT") != (initial is not None):
        raise ValueError(f"{run}: FT starts from the state of a float network, E2E from none")
    began = time.perf_counter()
    model = build(run, dataset.name, initial)
    steps = recipe.epochs * _batches_per_epoch(dataset, recipe)
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
    return Outcome(model.eval(), epochs, before, after, time.perf_counter() - began)


def batches(dataset: Dataset, recipe: Recipe, order: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one epoch of training images and labels in random order, without the rest that fills no batch."""
    shuffled = torch.randperm(len(dataset.train_labels), generator=order)
    for i in range(_batches_per_epoch(dataset, recipe)):
        chosen = shuffled[i * recipe.batch_size : (i + 1) * recipe.batch_size]
        yield dataset.train_images[chosen], dataset.train_labels[chosen]


def _batches_per_epoch(dataset: Dataset, recipe: Recipe) -> int:
    count = len(dataset.train_labels) // recipe.batch_size
    if count == 0:
        raise ValueError(f"{len(dataset.train_labels)} training images fill no batch of {recipe.batch_size}")
    return count


@torch.no_grad()
def answers(model: nn.Module, images: Tensor, batch_size: int = 500) -> Tensor:
    """Return the logits (N, classes) of `model` in `eval()`, with hard binary layers."""
    model.eval()
    return torch.cat([model(batch) for batch in torch.split(images, batch_size)])


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of `images` that the hard `model` classifies right."""
    return (answers(model, images).argmax(1) == labels).double().mean().item()
