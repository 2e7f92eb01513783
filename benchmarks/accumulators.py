"""What narrow accumulators cost in accuracy, by how they overflow and what training does about it.

Trains the demo's network on scikit-learn's digits (BWAA, bnn++, E2E) for each width; the accuracy is that of the hard
network on the test set, mean ± sd over seeds. `lost` is the share of sums that overflow in the trained network.

Run: OMP_NUM_THREADS=1 python benchmarks/accumulators.py [--bits 8 7 6 5] [--seeds 3]
"""

import argparse
import itertools
import statistics
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional

import proxconnect as pc
from proxconnect.cli.demo.experiment import RECIPES, Run, accuracy, batches, build
from proxconnect.training import data

RECIPE = RECIPES["digits"]


class Way(NamedTuple):
    """How sums overflow, the derivative that trains, and the strength of the overflow penalty."""

    overflow: str
    derivative: str
    penalty: float


WAYS = (
    Way("wrap", "exact", 0.0),
    Way("wrap", "exact", 10.0),
    Way("wrap", "clamp", 0.0),
    Way("wrap", "clamp", 10.0),
    Way("cyclic", "exact", 0.0),
    Way("cyclic", "exact", 1.0),
    Way("saturate", "exact", 0.0),
)


def train(bits: int, way: Way, seed: int, digits: data.Dataset) -> tuple[float, float]:
    """The accuracy of the hard network and the share of its sums that overflow, both in [0, 1]."""
    accumulator = pc.Accumulator(bits, way.overflow, derivative=way.derivative)
    model = build(Run("bnn++", "BWAA", "E2E", seed, accumulator), "digits")
    order = torch.Generator().manual_seed(seed)
    epoch = len(digits.train_labels) // RECIPE.batch_size
    steps = RECIPE.epochs * epoch
    optimizer = torch.optim.AdamW(model.parameters(), lr=RECIPE.learning_rate, weight_decay=RECIPE.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    pc.Sharpening(optimizer, model, steps=steps, hold=int(RECIPE.hold * steps))
    with pc.OverflowPenalty(model) as penalty:
        for _ in range(RECIPE.epochs):
            for images, labels in batches(digits, RECIPE, order):
                loss = functional.cross_entropy(model(images), labels) + way.penalty * penalty()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    pc.reestimate_batchnorm(model, (images for images, _ in batches(digits, RECIPE, order)))
    meters = pc.Meters(model)
    result = accuracy(model, digits.test_images, digits.test_labels)
    return result, meters.read()["all/overflow_share"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", nargs="+", type=int, default=[8, 7, 6, 5])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    digits, console = data.load("digits"), Console(width=80)
    table = Table(title=f"BWAA on digits, {arguments.seeds} seeds", title_justify="left")
    for heading in ("bits", "overflow", "derivative", "penalty", "accuracy, %", "lost, %"):
        table.add_column(heading, justify="right")
    for bits, way in itertools.product(arguments.bits, WAYS):
        with console.status(f"{bits} bits, {way.overflow}, {way.derivative}, penalty {way.penalty:g}"):
            results = [train(bits, way, seed, digits) for seed in range(arguments.seeds)]
        percent, lost = ([100 * value for value in column] for column in zip(*results, strict=True))
        spread = f" ± {statistics.stdev(percent):.1f}" if len(percent) > 1 else ""
        cells = (f"{statistics.mean(percent):.1f}{spread}", f"{statistics.mean(lost):.1f}")
        table.add_row(str(bits), way.overflow, way.derivative, f"{way.penalty:g}", *cells, end_section=way == WAYS[-1])
    console.print(table)


if __name__ == "__main__":
    main()
