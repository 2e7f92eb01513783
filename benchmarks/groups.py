"""What a scale for each group of inputs costs beside one for each output: products of packed weights, and training.

Each round runs all forms, and costs are ratios of medians, beside the quartiles of the ratios within rounds. Scales of
groups are float32, or float16 if this holds their values exactly. A step of training is the forward and backward pass
of one layer. With `--megabytes 64`, each call of a product takes the next of so many megabytes of weights, which caches
do not hold.

Run: OMP_NUM_THREADS=1 python benchmarks/groups.py --rounds 21 [--group-size 128] [--megabytes 64]
"""

import argparse
from functools import partial
from itertools import cycle
from math import ceil

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from proxconnect import kernels
from proxconnect.cli.bench.timing import Spread, Work, interleaved, quotients
from proxconnect.kernels.bits import pack_bits
from proxconnect.layers import BinaryLinear

SIZES = (768, 768), (4096, 4096), (11008, 4096)
"""The outputs and inputs of layers of language models."""
ROWS = (1, 4, 16, 128)
TOKENS = 512
"""The rows of a step of training."""

Forms = dict[str, Work]
"""What is timed with a scale for each "output", and for each group of its inputs in "float32" and "float16"."""


def products(outputs: int, inputs: int, rows: int, group_size: int, megabytes: int) -> dict[str, Forms]:
    """The product with a scale for each output, and those with one for each group, of exact and of 8-bit inputs."""
    weight, x = torch.randn(outputs, inputs), torch.randn(rows, inputs)
    panels, groups = kernels.panels(pack_bits(weight), outputs, inputs), weight.reshape(outputs, -1, group_size)
    scales = {
        "output": weight.abs().mean(1),
        "float32": kernels.group_scales(groups.abs().mean(2)),
        "float16": kernels.group_scales(groups.abs().mean(2).half()),
    }
    copies = max(1, ceil(megabytes * 2**20 / panels.nbytes))
    weights = {form: [(panels.clone(), scale.clone()) for _ in range(copies)] for form, scale in scales.items()}
    operators = {"exact": kernels.weight_only_linear, "int8": kernels.dynamic_int8_linear}
    return {
        name: {
            form: alternating([partial(operator, x, of, outputs, by) for of, by in weights[form]]) for form in scales
        }
        for name, operator in operators.items()
    }


def alternating(works: list[Work]) -> Work:
    """One work after the other, call by call."""
    turns = cycle(works)
    return lambda: next(turns)()


def training(outputs: int, inputs: int, group_size: int) -> dict[str, Forms]:
    x = torch.randn(TOKENS, inputs)
    layers = {"output": BinaryLinear(inputs, outputs), "float32": BinaryLinear(inputs, outputs, group_size=group_size)}
    return {"training": {form: partial(step, layer, x) for form, layer in layers.items()}}


def step(layer: BinaryLinear, x: Tensor) -> None:
    layer.latent.grad = None
    layer(x).sum().backward()


def add_rows(table: Table, of: tuple[str, str], works: dict[str, Forms], rounds: int) -> None:
    """Time works and add a row for each form with scales of groups."""
    for name, forms in works.items():
        seconds = interleaved(forms, rounds)
        one = Spread.of(seconds["output"]).median
        for form in [form for form in forms if form != "output"]:
            other, within = Spread.of(seconds[form]).median, Spread.of(quotients(seconds[form], seconds["output"]))
            cells = f"{one * 1e6:.0f}", f"{other * 1e6:.0f}", f"{other / one:.2f}"
            table.add_row(*of, name, form, *cells, f"{within.low:.2f}-{within.high:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--group-size", type=int, default=128)
    parser.add_argument("--megabytes", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(0)
    table = Table("weight", "rows", "what", "scales", "µs, one an output", "a group", "ratio", "quartiles", box=None)
    for outputs, inputs in SIZES:
        for rows in ROWS:
            works = products(outputs, inputs, rows, options.group_size, options.megabytes)
            add_rows(table, (f"{outputs}x{inputs}", str(rows)), works, options.rounds)
        works = training(outputs, inputs, options.group_size)
        add_rows(table, (f"{outputs}x{inputs}", str(TOKENS)), works, options.rounds)
    best = kernels.instruction_sets()[-1]
    Console(width=96).print(f"torch {torch.__version__}, kernels {best}, {torch.get_num_threads()} threads", table)


if __name__ == "__main__":
    main()
