"""How much slower a training step is where latents, gradients or inputs are denormal numbers, beside torch's layers.

A step is forward, backward and SGD of one layer. In each round every layer takes a step with normal numbers and one
with denormal ones in each place; what is printed are the medians of the quotients of these two, over rounds. Time is
that of the processor, which a busy machine disturbs less. With `--flush` torch takes denormal numbers for 0.

Run: OMP_NUM_THREADS=1 python benchmarks/denormals.py [--rounds 9] [--layer linear conv] [--flush]
"""

import argparse
import platform
from collections.abc import Callable, Sequence
from functools import partial
from time import process_time
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import proxconnect as pc
from proxconnect.cli.bench.timing import Spread, in_turn, quotients

DENORMAL = 1e-39  # times a normal number; the least normal one is 1.2e-38
USUAL = 0.02  # mean |latent|
HALF = "half the latents"
PLACES = (HALF, "latents", "gradients", "inputs")
PAIRS = ("bc", "bnn+", "bnn++")


class Task(NamedTuple):
    """A float layer and the shape of its input."""

    make: Callable[[], nn.Module]
    input: tuple[int, ...]


TASKS = {
    "linear": Task(lambda: nn.Linear(256, 256), (64, 256)),
    "conv": Task(lambda: nn.Conv2d(32, 32, 3, padding=1), (4, 32, 14, 14)),
}

CONTENDERS: dict[str, tuple[str, str | None] | None] = {
    "torch": None,
    **{f"{pair}, float inputs": (pair, None) for pair in PAIRS},
    "bnn++, binary inputs": ("bnn++", "poly"),
}
"""The pairs of weights and inputs; None for torch's layer as it is."""


class Step:
    """A training step, in which one place may hold denormal numbers; the learning rate 0 leaves the latents alone."""

    def __init__(self, task: Task, pairs: tuple[str, str | None] | None, place: str | None) -> None:
        torch.manual_seed(0)
        self.layer = nn.Sequential(task.make())
        with torch.no_grad():
            weight = self.layer[0].weight
            weight.mul_(self._size("latents", place) * USUAL / weight.abs().mean())
            weight.flatten()[::2] *= self._size(HALF, place)
        if pairs is not None:
            pc.binarize(self.layer, pairs[0], pairs[1], keep=None)
        self.input = (torch.randn(task.input) * self._size("inputs", place)).requires_grad_()
        with torch.no_grad():
            self.gradient = torch.randn_like(self.layer(self.input)) * self._size("gradients", place)
        self.optimizer = torch.optim.SGD(self.layer.parameters(), lr=0.0)

    def __call__(self) -> None:
        self.layer(self.input).backward(self.gradient)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.input.grad = None

    @staticmethod
    def _size(of: str, place: str | None) -> float:
        return DENORMAL if of == place else 1.0


def measured(task: Task, rounds: int) -> dict[tuple[str, str | None], tuple[float, ...]]:
    """The seconds of every step, one value a round."""
    keys = [(name, place) for name in CONTENDERS for place in (None, *PLACES)]
    steps = {f"{name}|{place}": Step(task, CONTENDERS[name], place) for name, place in keys}
    seconds = in_turn({key: partial(seconds_of, step) for key, step in steps.items()}, rounds)
    return {(name, place): seconds[f"{name}|{place}"] for name, place in keys}


def seconds_of(step: Step) -> float:
    """Of the processor, after a step that fills the caches."""
    step()
    start = process_time()
    step()
    return process_time() - start


def table(seconds: dict[tuple[str, str | None], tuple[float, ...]]) -> Table:
    """Median milliseconds with normal numbers, and how many times as long it takes with denormal ones."""
    made = Table()
    made.add_column("layer", no_wrap=True)
    for heading in ("normal, ms", *PLACES):
        made.add_column(heading, justify="right")
    for name in CONTENDERS:
        normal = seconds[name, None]
        times = [times_of(quotients(seconds[name, place], normal)) for place in PLACES]
        made.add_row(name, f"{1000 * Spread.of(normal).median:.2f}", *times)
    return made


def times_of(ratios: Sequence[float]) -> str:
    spread = Spread.of(ratios)
    return f"{spread.median:.2f} ({spread.low:.2f}-{spread.high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="timed steps of each (9)")
    parser.add_argument("--layer", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--flush", action="store_true", help="under torch.set_flush_denormal(True)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(options.flush)
    console = Console(width=120, highlight=False)
    for name in options.layer:
        shape = "x".join(map(str, TASKS[name].input))
        console.print(
            f"{name} {shape}, {platform.machine()}, torch {torch.__version__}, 1 thread, {options.rounds} rounds"
        )
        console.print(table(measured(TASKS[name], options.rounds)))
    console.print("Denormal numbers in that place, in times of normal ones there: medians and quartiles within rounds.")


if __name__ == "__main__":
    main()
