"""Binary convolutions with what follows them, beside the same without, each in turn with its rival.

A 3 × 3 convolution of one image in the memory format channels_last, whose scaled floats alone are the rival. Ratios are
of one round, so that a neighbour's noise meets both. The last table is what calls cost, with an image of one pixel.

Run: OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/fused.py [--rounds 301]
"""

import argparse
import statistics
from collections.abc import Callable
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from proxconnect import kernels
from proxconnect.kernels import Add, Affine, Clamp, FusedConv2d, Signs, Slope
from proxconnect.kernels.bits import pack_bits
from proxconnect.kernels.steps import Step

IMAGES = ((64, 56), (128, 28), (256, 14), (512, 7))
"""Channels, in and out, and height and width."""

Work = Callable[[], object]


def seconds(work: Work) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def medians(rival: Work, work: Work, rounds: int) -> tuple[float, float]:
    """Seconds of the work, and how often it takes those of its rival."""
    times = [(seconds(rival), seconds(work)) for _ in range(rounds)]
    return statistics.median(b for _, b in times), statistics.median(b / a for a, b in times)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape).contiguous(memory_format=torch.channels_last)


def works(channels: int, size: int, instruction_set: str, kernel: int = 3) -> dict[str, tuple[Work, Work]]:
    """Rival and work by name."""
    weight, x = torch.randn(channels, channels, kernel, kernel), drawn(1, channels, size, size)
    panels = kernels.conv_panels(pack_bits(weight), weight.shape)
    padding, scale, shift = (kernel // 2, kernel // 2), torch.rand(channels), torch.randn(channels)

    def fused(then: tuple[Step, ...] | Signs) -> FusedConv2d:
        return FusedConv2d(
            panels, weight.shape, padding=padding, scale=scale, then=then, instruction_set=instruction_set
        )

    def operator() -> Tensor:
        return kernels.binary_conv2d(
            x, panels, weight.shape, padding=padding, scale=scale, instruction_set=instruction_set
        )

    zero = torch.zeros(channels, dtype=torch.int32)
    plain, signs = fused(()), fused(Signs(zero, zero + (2**31 - 1), zero))
    affine, relu, prelu = Affine(scale, shift), Clamp(0.0, torch.inf), Slope(shift)
    normed, added, blocked = fused((affine,)), fused((Add(),)), fused((affine, Add(), relu))
    sloped, bits, other = fused((affine, prelu)), signs(x), drawn(1, channels, size, size)
    norm = nn.BatchNorm2d(channels).eval()
    return {
        "operator": (lambda: plain(x), operator),
        "batch norm": (lambda: plain(x), lambda: normed(x)),
        "batch norm, prelu": (lambda: plain(x), lambda: sloped(x)),
        "add": (lambda: plain(x), lambda: added(x, other)),
        "batch norm, add, relu": (lambda: plain(x), lambda: blocked(x, other)),
        "the same by torch": (lambda: plain(x), lambda: norm(operator()).add_(other).relu_()),
        "to bits": (lambda: plain(x), lambda: signs(x)),
        "from bits": (lambda: plain(x), lambda: plain(bits)),
        "bits to bits": (lambda: plain(x), lambda: signs(bits)),
    }


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]  # it stands above
    parser.add_argument("--rounds", type=int, default=301)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    console = Console()
    for name in kernels.instruction_sets():
        table = Table("µs, and times the floats alone", *(f"{c} channels, {size}²" for c, size in IMAGES), title=name)
        columns = [works(c, size, name) for c, size in IMAGES]
        for row in columns[0]:
            found = [medians(*column[row], rounds if name != "portable" else rounds // 10 + 1) for column in columns]
            table.add_row(row, *(f"{time * 1e6:.0f}, {ratio:.2f}" for time, ratio in found))
        console.print(table)
    calls = Table("a call with one pixel", "µs")
    for row, (_, work) in works(64, 1, kernels.instruction_sets()[-1], kernel=1).items():
        calls.add_row(row, f"{min(statistics.median(seconds(work) for _ in range(1000)) for _ in range(9)) * 1e6:.1f}")
    console.print(calls)


if __name__ == "__main__":
    main()
