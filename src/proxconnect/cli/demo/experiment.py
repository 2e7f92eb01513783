"""One training run: a pair, a mode, a start and a seed, from data to the accuracy of the hard network."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from proxconnect.conversion import binarize
from proxconnect.deploy.hardening import reestimate_batchnorm
from proxconnect.layers import Accumulator
from proxconnect.optim.sharpening import Sharpening
from proxconnect.training.data import Dataset
from proxconnect.training.models.residual import bireal_resnet20, small_cnn

Mode = Literal["float", "BW", "BWA", "BWAA"]
Start = Literal["E2E", "FT"]
State = dict[str, Tensor]

ACTIVATIONS = "poly"
"""The pair of binary activations in BWA and BWAA: hard in the forward pass already, so no schedule moves it."""

ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "digits": small_cnn,
    "fashion-mnist": partial(bireal_resnet20, in_channels=1, stem_stride=2),
}
"""The float network for each data set."""


@dataclass(frozen=True)
class Run:
    """What is trained: weights by `pair`, from scratch (E2E) or from the float network of the same seed (FT).

    `accumulator` is what BWAA holds its sums in, None for the other modes.
    """

    pair: str
    mode: Mode
    start: Start
    seed: int
    accumulator: Accumulator | None = None

    @property
    def is_float(self) -> bool:
        """Whether this run trains the float network."""
        return self.mode == "float"

    def __str__(self) -> str:
        return f"fp, seed {self.seed}" if self.is_float else f"{self.pair} {self.mode} {self.start}, seed {self.seed}"


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters, the same for every pair: AdamW, cosine learning rate to 0, μ over its usual range.

    Args:
        epochs: of every run, the float one and fine-tuning included.
        batch_size: images a step.
        learning_rate: the peak.
        weight_decay: AdamW's; it acts on the latents.
        hold: the share of steps at the end in which μ stays at its end.
    """

    epochs: int
    batch_size: int
    learning_rate: float = 5e-3
    weight_decay: float = 1e-4
    hold: float = 0.1


RECIPES = {
    "digits": Recipe(epochs=10, batch_size=128),
    "fashion-mnist": Recipe(epochs=6, batch_size=128),
}
"""The recipe for each data set."""


@dataclass(frozen=True)
class Epoch:
    """Mean training loss (soft weights) over an epoch and the accuracy of the hard network on the test set after it."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Outcome:
    """What a run gave. Accuracies are those of the hard network on the test set, in [0, 1].

    `accuracy_before` is with the batch-norm statistics of training, `accuracy_after` with those re-estimated for the
    hard weights; the float network has one accuracy, in both. `state` is the state dict with the latter statistics.
    """

    run: Run
    epochs: tuple[Epoch, ...]
    accuracy_before: float
    accuracy_after: float
    seconds: float
    state: State


def build(run: Run, data: str, initial: State | None = None) -> nn.Module:
    """The network of `run`, initialised by its seed or with the float weights `initial`, binarized unless float."""
    torch.manual_seed(run.seed)
    model = ARCHITECTURES[data]()
    if initial is not None:
        model.load_state_dict(initial)
    if run.is_float:
        return model
    activations = None if run.mode == "BW" else ACTIVATIONS
    return binarize(model, weights=run.pair, activations=activations, accumulator=run.accumulator)


def restore(outcome: Outcome, data: str) -> nn.Module:
    """The trained network of `outcome`, in `eval()`."""
    model = build(outcome.run, data)
    model.load_state_dict(outcome.state)
    return model.eval()


def train(
    run: Run, recipe: Recipe, dataset: Dataset, initial: State | None = None,
    on_epoch: Callable[[], None] = lambda: None,
) -> Outcome:  # fmt: skip
    """Train `run` and measure it; `on_epoch` is called after each epoch."""
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
    for _ in range(recipe.epochs):
        loss = _epoch(model, optimizer, schedule, batches(dataset, recipe, order))
        epochs.append(Epoch(loss, accuracy(model, dataset.test_images, dataset.test_labels)))
        on_epoch()
    before = after = epochs[-1].accuracy
    if not run.is_float:
        reestimate_batchnorm(model, (images for images, _ in batches(dataset, recipe, order)))
        after = accuracy(model, dataset.test_images, dataset.test_labels)
    return Outcome(run, tuple(epochs), before, after, time.perf_counter() - began, model.state_dict())


def _epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler,
    stream: Iterator[tuple[Tensor, Tensor]],
) -> float:  # fmt: skip
    """The mean loss over one epoch of training."""
    model.train()
    losses = []
    for images, labels in stream:
        loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return math.fsum(losses) / len(losses)


def batches(dataset: Dataset, recipe: Recipe, order: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of training images and labels in random order; what fills no batch is left out."""
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
    """The logits (N, classes) of `model` in `eval()`, where binary layers are hard."""
    model.eval()
    return torch.cat([model(batch) for batch in torch.split(images, batch_size)])


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of `images` that `model`, hard, classifies as `labels` say."""
    return (answers(model, images).argmax(1) == labels).double().mean().item()
