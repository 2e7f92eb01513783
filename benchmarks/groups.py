"""What a scale for each group of inputs costs beside one for each output: products of packed weights, and training.

Each round runs both forms, and costs are ratios of medians, beside the quartiles of the ratios within rounds. A step of
training is the forward and backward pass of one layer.

Run: OMP_NUM_THREADS=1 python benchmarks/groups.py --rounds 21 [--group-size 128]
"""

import argparse
from functools import partial

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
ROWS = (1, 4, 32, 128)
TOKENS = 512
"""The rows of a step of training."""

Both = dict[str, Work]
"""What is timed with a scale for each "output", and for each "group" of its inputs."""


def products(outputs: int, inputs: int, rows: int, group_size: int) -> dict[str, Both]:
    """The product with a scale for each output, and that with one for each group, of exact and of 8-bit inputs."""
    weight, x = torch.randn(outputs, inputs), torch.randn(rows, inputs)
    panels, scale = kernels.panels(pack_bits(weight), outputs, inputs), weight.abs().mean(1)
    groups = kernels.group_scales(weight.reshape(outputs, -1, group_size).abs().mean(2))
    operators = {"exact": kernels.weight_only_linear, "int8": kernels.dynamic_int8_linear}
    return {
        name: {form: partial(operator, x, panels, outputs, by) for form, by in (("output", scale), ("group", groups))}
        for name, operator in operators.items()
    }


def training(outputs: int, inputs: int, group_size: int) -> dict[str, Both]:
    x = torch.randn(TOKENS, inputs)
    layers = {"output": BinaryLinear(inputs, outputs), "group": BinaryLinear(inputs, outputs, group_size=group_size)}
    return {"training": {form: partial(step, layer, x) for form, layer in layers.items()}}


def step(layer: BinaryLinear, x: Tensor) -> None:
    layer.latent.grad = None
    layer(x).sum().backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--group-size", type=int, default=128)
    options = parser.parse_args()
    torch.manual_seed(0)
    table = Table("weight", "rows", "what", "µs, one an output", "one a group", "ratio", "quartiles", box=None)
    for outputs, inputs in SIZES:
        runs = [(m, products(outputs, inputs, m, options.group_size)) for m in ROWS]
        for rows, works in [*runs, (TOKENS, training(outputs, inputs, options.group_size))]:
            for name, both in works.items():
                seconds = interleaved(both, options.rounds)
                one, other = (Spread.of(seconds[form]).median for form in ("output", "group"))
                within = Spread.of(quotients(seconds["group"], seconds["output"]))
                cells = f"{one * 1e6:.0f}", f"{other * 1e6:.0f}", f"{other / one:.2f}"
                table.add_row(f"{outputs}x{inputs}", str(rows), name, *cells, f"{within.low:.2f}-{within.high:.2f}")
    best = kernels.instruction_sets()[-1]
    Console(width=80).print(f"torch {torch.__version__}, kernels {best}, {torch.get_num_threads()} threads", table)


if __name__ == "__main__":
    main()
