"""Products of signs by our kernels, beside torch's float32, in one interleaved run.

A product packs the signs of a float input (M, K), multiplies by N rows of a packed weight and writes floats (M, N).
Speeds are multiply-adds of signs a second; ratios are of one round. The last line is what a call costs at M = N = 1.

Run: OMP_NUM_THREADS=1 python benchmarks/kernels.py [--rounds 9] [--threads 1 2]
"""

import argparse
import statistics
from collections.abc import Callable
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table

from proxconnect import kernels
from proxconnect.packed.bits import pack_bits

SHAPES = ((2048, 2048, 2048), (197, 768, 192), (16, 4096, 4096), (1, 4096, 4096), (1, 11008, 4096))
"""M, N, K."""


def seconds(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def contenders(m: int, n: int, k: int) -> dict[str, Callable[[], object]]:
    x, weight = torch.randn(m, k), torch.randn(n, k)
    made, scale = kernels.panels(pack_bits(weight), n, k), torch.rand(n)
    works: dict[str, Callable[[], object]] = {"torch float32": lambda: torch.nn.functional.linear(x, weight)}
    for name in kernels.instruction_sets():
        works[name] = lambda name=name: kernels.binary_linear(x, made, n, scale, instruction_set=name)
    return works


def table(m: int, n: int, k: int, rounds: int, threads: int) -> Table:
    works = contenders(m, n, k)
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            times[name].append(seconds(work))
    base = times["torch float32"][1:]
    made = Table(title=f"M = {m}, N = {n}, K = {k}, {threads} thread{'s' * (threads > 1)}", title_justify="left")
    for heading in ("", "ms", "G/s", "x torch", "quartiles"):
        made.add_column(heading, justify="right" if heading else "left")
    for name, taken in times.items():
        low, middle, high = statistics.quantiles([b / t for b, t in zip(base, taken[1:], strict=True)], n=4)
        median = statistics.median(taken[1:])
        speed = m * n * k / median / 1e9
        made.add_row(name, f"{1e3 * median:.3f}", f"{speed:.0f}", f"{middle:.2f}", f"{low:.2f} to {high:.2f}")
    return made


def call_cost(rounds: int) -> str:
    x, made = torch.randn(1, 64), kernels.panels(pack_bits(torch.randn(1, 64)), 1, 64)
    times = [seconds(lambda: [kernels.binary_linear(x, made, 1) for _ in range(1000)]) for _ in range(rounds + 1)][1:]
    return f"a call: {1e3 * statistics.median(times):.1f} us ({1e3 * min(times):.1f} to {1e3 * max(times):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    arguments = parser.parse_args()
    console = Console(width=80)
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        for shape in SHAPES:
            console.print(table(*shape, arguments.rounds, threads))
    console.print(call_cost(arguments.rounds))


if __name__ == "__main__":
    main()
