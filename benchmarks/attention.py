"""Attention of floats by our kernel, beside torch's, in one interleaved run.

Queries, keys and values are views of what one layer gives, (batch, tokens, 3, heads, width); outputs have their tokens
before their heads. Errors are root mean squares beside float64. Needs AVX2, AVX-512 or AMX.

Run: OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/attention.py [--rounds 51]
"""

import argparse
import statistics
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from proxconnect import kernels

SHAPES = (
    (1, 197, 3, 64), (1, 197, 12, 64), (8, 197, 3, 64), (1, 50, 12, 64), (8, 50, 12, 64), (1, 16, 4, 32),
    (1, 128, 12, 32), (1, 197, 12, 80), (1, 257, 16, 72), (1, 512, 12, 64), (1, 1024, 8, 128), (1, 2048, 4, 64),
)  # fmt: skip
"""Batch, tokens, heads and width."""


def by_torch(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).contiguous()


def error(answer: Tensor, right: Tensor) -> float:
    return float((answer - right).square().mean().sqrt())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=51)
    rounds = parser.parse_args().rounds
    table = Table("batch, tokens, heads, width", "torch, µs", "kernel, µs", "times", "torch's error", "the kernel's")
    for batch, tokens, heads, width in SHAPES:
        q, k, v = torch.randn(batch, tokens, 3, heads, width).permute(2, 0, 3, 1, 4).unbind(0)
        right = by_torch(q.double(), k.double(), v.double())
        seconds: dict[object, list[float]] = {by_torch: [], kernels.attention: []}
        for _ in range(rounds):
            for function in (by_torch, kernels.attention):
                start = perf_counter()
                function(q, k, v)
                seconds[function].append(perf_counter() - start)
        theirs, ours = (statistics.median(times) for times in seconds.values())
        ratio = statistics.median(a / b for a, b in zip(*seconds.values(), strict=True))
        errors = (f"{error(f(q, k, v), right):.1e}" for f in (by_torch, kernels.attention))
        table.add_row(
            f"{batch}, {tokens}, {heads}, {width}", f"{theirs * 1e6:.0f}", f"{ours * 1e6:.0f}", f"{ratio:.2f}", *errors
        )
    Console().print(table)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
