"""What a binary embedding costs beside a float one: a look-up by packed rows, and a step of training.

Each round runs all forms, and costs are ratios of medians to torch's `nn.Embedding`, beside the quartiles of the ratios
within rounds. A step is the forward and backward pass. "whole table" quantises every row before the look-up.

Run: OMP_NUM_THREADS=1 python benchmarks/embeddings.py --rounds 21
"""

import argparse
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

import proxconnect as pc
from proxconnect.cli.bench.timing import Spread, Work, interleaved, quotients

ROWS, DIM = 32000, 768
INDICES = (1, 128, 2048)


def step(layer: nn.Module, indices: Tensor, is_whole: bool = False) -> None:
    layer.zero_grad()
    rows = functional.embedding(indices, layer.weight) if is_whole else layer(indices)
    rows.sum().backward()


def look_up(layer: nn.Module, indices: Tensor) -> None:
    with torch.inference_mode():
        layer(indices)


def works(indices: Tensor) -> dict[str, dict[str, Work]]:
    """The forms of a look-up and of a step; the first of each is torch's."""
    plain, binary = nn.Embedding(ROWS, DIM), pc.BinaryEmbedding(ROWS, DIM)
    packed = pc.pack(binary)
    return {
        "look-up": {"float": partial(look_up, plain, indices), "packed": partial(look_up, packed, indices)},
        "training": {
            "float": partial(step, plain, indices),
            "rows": partial(step, binary, indices),
            "whole table": partial(step, binary, indices, is_whole=True),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args()
    torch.manual_seed(0)
    table = Table("indices", "what", "form", "ms", "ratio", "quartiles", box=None)
    for count in INDICES:
        for what, forms in works(torch.randint(ROWS, (count,))).items():
            seconds = interleaved(forms, options.rounds)
            base = Spread.of(seconds["float"]).median
            for form, times in seconds.items():
                median, within = Spread.of(times).median, Spread.of(quotients(times, seconds["float"]))
                cells = f"{median * 1e3:.3f}", f"{median / base:.2f}", f"{within.low:.2f}-{within.high:.2f}"
                table.add_row(str(count), what, form, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
