"""What stays float in a binary network, in 8 bits: time and error of each layer, beside torch's float32.

Layers are those of ResNet-18 and DeiT-tiny with random weights, batch 1, images channels last and of normal numbers
after a ReLU, but for those of pixels. Times are medians of one interleaved run, ratios of one round. The error is that
of the largest output difference to the largest output, and the most that
`proxconnect.deploy.packed.layers.int8.error` says it could be. The instruction set is the best that the machine has.

Run: OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/int8.py [--rounds 21] [--threads 1]
"""

import argparse
import statistics
from collections.abc import Callable
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import proxconnect as pc
from proxconnect.deploy.packed.layers.int8 import Int8Layer, error
from proxconnect.layers import BinaryLinear


def image(channels: int, size: int) -> Tensor:
    pixels = torch.randn(1, channels, size, size).to(memory_format=torch.channels_last)
    return pixels if channels == 3 else pixels.relu()


CASES: dict[str, Callable[[], tuple[nn.Linear | nn.Conv2d, Tensor]]] = {
    "7 x 7, 3 to 64, 224², stride 2": lambda: (nn.Conv2d(3, 64, 7, 2, 3, bias=False), image(3, 224)),
    "1 x 1, 64 to 128, 56², stride 2": lambda: (nn.Conv2d(64, 128, 1, 2, bias=False), image(64, 56)),
    "1 x 1, 128 to 256, 28², stride 2": lambda: (nn.Conv2d(128, 256, 1, 2, bias=False), image(128, 28)),
    "1 x 1, 256 to 512, 14², stride 2": lambda: (nn.Conv2d(256, 512, 1, 2, bias=False), image(256, 14)),
    "3 x 3, 64 to 64, 56²": lambda: (nn.Conv2d(64, 64, 3, padding=1, bias=False), image(64, 56)),
    "16 x 16, 3 to 192, 224², stride 16": lambda: (nn.Conv2d(3, 192, 16, 16), image(3, 224)),
    "linear, one row, 512 to 1000": lambda: (nn.Linear(512, 1000), torch.randn(1, 512).relu()),
    "linear, 16 rows, 512 to 1000": lambda: (nn.Linear(512, 1000), torch.randn(16, 512).relu()),
    "linear, one row, 192 to 1000": lambda: (nn.Linear(192, 1000), torch.randn(1, 192)),
    "linear, 197 rows, 192 to 576": lambda: (nn.Linear(192, 576), torch.randn(197, 192)),
}


def packed(layer: nn.Module) -> Int8Layer:
    form = pc.pack(nn.Sequential(BinaryLinear(8, 8), layer), remainder="int8")[1]
    assert isinstance(form, Int8Layer)
    return form


def milliseconds(work: Callable[[], object], times: int) -> float:
    start = perf_counter()
    for _ in range(times):
        work()
    return (perf_counter() - start) / times * 1e3


def contest(layer: nn.Module, form: nn.Module, input: Tensor, rounds: int) -> list[tuple[float, float]]:
    """The times of both in each round."""
    times = max(1, int(20 / (milliseconds(lambda: layer(input), 3) + 1e-3)))
    return [
        (milliseconds(lambda: layer(input), times), milliseconds(lambda: form(input), times)) for _ in range(rounds)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    table = Table("layer", "float32, ms", "int8, ms", "times as fast", "error, %", "bound, %")
    with torch.inference_mode():
        for name, make in CASES.items():
            layer, input = make()
            layer = layer.to(memory_format=torch.channels_last).requires_grad_(False)
            form = packed(layer)
            rounds = contest(layer, form, input, arguments.rounds)
            ratio = statistics.median(ours / mine for ours, mine in rounds)
            medians = [statistics.median(times) for times in zip(*rounds, strict=True)]
            errors = (100 * share for share in error(form, layer, input))
            table.add_row(name, *(f"{m:.3f}" for m in medians), f"{ratio:.1f}", *(f"{e:.2f}" for e in errors))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
