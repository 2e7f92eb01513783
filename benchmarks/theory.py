"""What verdicts take, and what a pair that `correct` made from a callable costs beside its closed form.

The first table times `decompose` of every pair of the catalogue at each μ in 0.5, 1, 2, 5, 50 that it allows. The
second runs F and B of bnn++ as the catalogue has it and as `correct` makes it from B alone, on the weights of a layer,
interleaved; each cost is a ratio to `torch.tanh` and its derivative.

Run: OMP_NUM_THREADS=1 python benchmarks/theory.py [--rounds 15] [--weights 589824]
"""

import argparse
import statistics
from collections.abc import Callable
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from proxconnect import PAIRS, Pair
from proxconnect.pairs import transform
from proxconnect.theory import correct, decompose

MUS = (0.5, 1.0, 2.0, 5.0, 50.0)


def seconds(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def verdicts(rounds: int) -> Table:
    table = Table(title=f"decompose, seconds, of {rounds} rounds", title_justify="left")
    for heading in ("pair", "median", "longest", "at μ"):
        table.add_column(heading, justify="left" if heading == "pair" else "right")
    for name, pair in PAIRS.items():
        mus = [mu for mu in MUS if pair.sharpness is None or pair.sharpness.contains(mu)]
        mus = mus if pair.sharpness is not None else mus[:1]
        times = {mu: [seconds(lambda mu=mu, name=name: decompose(name, mu=mu)) for _ in range(rounds)] for mu in mus}
        slowest = max(times, key=lambda mu: max(times[mu]))
        every = [t for some in times.values() for t in some]
        at = f"{slowest:g}" if pair.sharpness is not None else ""
        table.add_row(name, f"{statistics.median(every):.3f}", f"{max(every):.3f}", at)
    return table


def step(pair: Pair, latent: Tensor, mu: Tensor) -> Callable[[], object]:
    return lambda: (pair.forward(latent, mu), pair.backward(latent, mu))


def costs(rounds: int, weights: int) -> Table:
    latent, mu = torch.randn(weights, generator=torch.Generator().manual_seed(0)), torch.tensor(2.0)
    made = correct(sign_swish_slope, name="bnn++ from a callable")
    contenders: dict[str, Callable[[], object]] = {
        "torch.tanh": lambda: (torch.tanh(2 * latent), 2 * (1 - torch.tanh(2 * latent).square())),
        "bnn++": step(PAIRS["bnn++"], latent, mu),
        made.name: step(made, latent, mu),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, work in contenders.items():
            times[name].append(seconds(work))
    table = Table(title=f"F and B, {weights} weights, {rounds} rounds", title_justify="left")
    for heading in ("", "ms", "x tanh", "quartiles"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, taken in times.items():
        ratios = [ours / base for ours, base in zip(taken[1:], times["torch.tanh"][1:], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        milliseconds = 1000 * statistics.median(taken[1:])
        table.add_row(name, f"{milliseconds:.2f}", f"{middle:.2f}", f"{low:.2f} to {high:.2f}")
    return table


def sign_swish_slope(x: Tensor) -> Tensor:
    return transform.sign_swish.derivative(x, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--weights", type=int, default=589_824, help="default: those of a 256 x 256 x 3 x 3 convolution"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=80)
    console.print(verdicts(3))
    console.print(costs(arguments.rounds, arguments.weights))


if __name__ == "__main__":
    main()
