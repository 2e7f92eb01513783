"""Products and convolutions of signs by our kernels, beside torch's float32, in one interleaved run.

A product packs the signs of a float input (M, K), multiplies by N rows of a packed weight and writes floats (M, N); a
convolution does so with an image, batch 1, channels last. Where OpenVINO is installed, its BinaryConvolution stands
beside those of one group. Products of floats with a packed weight, exact and rounded to 8 bits, follow in tables of
their own. Speeds are multiply-adds a second; ratios are of one round. Beside products of one row stands what reading
the bits alone takes. The last line is what a call costs at M = N = 1.

Run: OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/kernels.py [--rounds 21] [--threads 1 2]
"""

import argparse
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional

from proxconnect import Accumulator, kernels
from proxconnect.export.openvino import compiled
from proxconnect.kernels.bits import pack_bits

SHAPES = ((2048, 2048, 2048), (197, 768, 192), (16, 4096, 4096), (1, 4096, 4096), (1, 11008, 4096))
"""M, N, K."""

WEIGHT_ONLY = (
    (1, 4096, 4096), (1, 11008, 4096), (1, 4096, 11008), (16, 4096, 4096), (197, 192, 192), (197, 576, 192),
    (197, 768, 192), (197, 192, 768), (197, 768, 768), (197, 3072, 768), (256, 64, 64), (16, 16, 16),
)  # fmt: skip
"""M, N, K of products of floats."""

IMAGES = ((64, 56), (128, 28), (256, 14), (512, 7))
"""Channels, in and out, and height and width."""


@dataclass(frozen=True)
class Convolution:
    """Sizes are of height and width."""

    channels: int
    outputs: int
    size: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1

    @property
    def padding(self) -> int:
        return self.kernel // 2

    @property
    def multiplications(self) -> int:
        out = (self.size + 2 * self.padding - self.kernel) // self.stride + 1
        return self.outputs * self.channels // self.groups * (self.kernel * out) ** 2

    def __str__(self) -> str:
        groups = f", {self.groups} groups" if self.groups > 1 else ""
        return (
            f"{self.kernel} x {self.kernel}, {self.channels} to {self.outputs}{groups}, {self.size}²"
            f"{f', stride {self.stride}' if self.stride > 1 else ''}"
        )


CONVOLUTIONS = (
    Convolution(64, 64, 56), Convolution(128, 128, 28), Convolution(256, 256, 14), Convolution(512, 512, 7),
    Convolution(3, 64, 224, kernel=7, stride=2), Convolution(3, 32, 224, stride=2), Convolution(16, 16, 112),
    Convolution(256, 512, 28, kernel=1, stride=2),
    Convolution(128, 128, 56, groups=4), Convolution(128, 128, 56, groups=8), Convolution(128, 128, 56, groups=32),
    Convolution(32, 32, 112, groups=32), Convolution(128, 128, 56, groups=128),
    Convolution(128, 128, 56, stride=2, groups=128), Convolution(512, 512, 14, groups=512),
    Convolution(128, 128, 28, kernel=5, groups=128),
)  # fmt: skip

Works = dict[str, Callable[[], object]]


def seconds(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def products(m: int, n: int, k: int) -> Works:
    x, weight = torch.randn(m, k), torch.randn(n, k)
    made, scale = kernels.panels(pack_bits(weight), n, k), torch.rand(n)
    works: Works = {"torch float32": lambda: functional.linear(x, weight)}
    for name in kernels.instruction_sets():
        works[name] = lambda name=name: kernels.binary_linear(x, made, n, scale, instruction_set=name)
    return works | reading(m, made)


def weight_only_products(m: int, n: int, k: int) -> Works:
    x, weight = torch.randn(m, k), torch.randn(n, k)
    made, scale = kernels.panels(pack_bits(weight), n, k), torch.rand(n)
    works: Works = {"torch float32": lambda: functional.linear(x, weight)}
    for name in kernels.instruction_sets():
        for kind, operator in (("exact", kernels.weight_only_linear), ("int8", kernels.dynamic_int8_linear)):
            works[f"{kind}, {name}"] = lambda name=name, operator=operator: operator(
                x, made, n, scale, instruction_set=name
            )
    return works | reading(m, made)


def reading(m: int, made: torch.Tensor) -> Works:
    """What memory allows at most: one row reads the whole weight once. torch sums it as fast as it arrives."""
    return {"reading the bits": lambda: made.view(torch.int64).sum()} if m == 1 else {}


def weight_only_convolutions(channels: int, size: int) -> Works:
    last = torch.channels_last
    x = torch.randn(1, channels, size, size).contiguous(memory_format=last)
    weight = torch.randn(channels, channels, 3, 3)
    made, kernel = kernels.patch_panels(pack_bits(weight), weight.shape), weight.contiguous(memory_format=last)
    works: Works = {"torch float32": lambda: functional.conv2d(x, kernel, padding=1)}
    for name in kernels.instruction_sets():
        for kind, operator in (("exact", kernels.weight_only_conv2d), ("int8", kernels.dynamic_int8_conv2d)):
            works[f"{kind}, {name}"] = lambda name=name, operator=operator: operator(
                x, made, weight.shape, padding=(1, 1), instruction_set=name
            )
    return works


def convolutions(c: Convolution, threads: int) -> Works:
    last = torch.channels_last
    x = torch.randn(1, c.channels, c.size, c.size).contiguous(memory_format=last)
    weight = torch.randn(c.outputs, c.channels // c.groups, c.kernel, c.kernel)
    made = kernels.conv_panels(pack_bits(weight), weight.shape, c.groups)
    kernel, stride, padding = weight.contiguous(memory_format=last), (c.stride, c.stride), (c.padding, c.padding)
    works: Works = {"torch float32": lambda: functional.conv2d(x, kernel, None, stride, padding, 1, c.groups)}
    for name in kernels.instruction_sets():
        works[name] = lambda name=name: kernels.binary_conv2d(
            x, made, weight.shape, stride, padding, groups=c.groups, instruction_set=name
        )
    wrap = Accumulator(8, "wrap")
    works["best, 8-bit wrap"] = lambda: kernels.binary_conv2d(
        x, made, weight.shape, stride, padding, groups=c.groups, accumulator=wrap
    )
    if find_spec("openvino") is not None and c.groups == 1:
        works["OpenVINO, binary"] = openvino_convolution(c, threads)
    return works


def openvino_convolution(c: Convolution, threads: int) -> Callable[[], object]:
    import numpy as np
    import openvino as ov
    from openvino import opset1
    from openvino.op import Constant

    x = opset1.parameter([1, c.channels, c.size, c.size], np.float32)
    zero, one = np.zeros((1, 1, 1, 1), np.float32), np.ones((1, 1, 1, 1), np.float32)
    minus = zero if c.channels % 8 == 0 else -one  # of 0 and 1 it makes bits at once, but not of so few channels
    signs = opset1.fake_quantize(x, zero, zero, minus, one, 2)
    shape = [c.outputs, c.channels, c.kernel, c.kernel]
    bits = np.random.default_rng(0).integers(0, 256, -(-math.prod(shape) // 8), dtype=np.uint8)
    weight = Constant(ov.Tensor(bits, ov.Shape(shape), ov.Type.u1), shared_memory=False)
    stride, padding = [c.stride] * 2, [c.padding] * 2
    node = opset1.binary_convolution(signs, weight, stride, padding, padding, [1, 1], "xnor-popcount", 0.0)
    network = compiled(ov.Model([node], [x], "conv"), INFERENCE_NUM_THREADS=threads, NUM_STREAMS=1)
    request = network.create_infer_request()
    request.set_input_tensor(ov.Tensor(np.random.randn(1, c.channels, c.size, c.size).astype(np.float32)))
    return request.infer


def table(title: str, works: Works, multiplications: int, rounds: int) -> Table:
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            times[name].append(seconds(work))
    base = times["torch float32"][1:]
    made = Table(title=title, title_justify="left")
    for heading in ("", "ms", "G/s", "x torch", "quartiles"):
        made.add_column(heading, justify="right" if heading else "left")
    for name, taken in times.items():
        low, middle, high = statistics.quantiles([b / t for b, t in zip(base, taken[1:], strict=True)], n=4)
        median = statistics.median(taken[1:])
        speed = multiplications / median / 1e9
        made.add_row(name, f"{1e3 * median:.3f}", f"{speed:.0f}", f"{middle:.2f}", f"{low:.2f} to {high:.2f}")
    return made


def call_cost(rounds: int) -> str:
    x, made = torch.randn(1, 64), kernels.panels(pack_bits(torch.randn(1, 64)), 1, 64)
    times = [seconds(lambda: [kernels.binary_linear(x, made, 1) for _ in range(1000)]) for _ in range(rounds + 1)][1:]
    return f"a call: {1e3 * statistics.median(times):.1f} us ({1e3 * min(times):.1f} to {1e3 * max(times):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    arguments = parser.parse_args()
    console = Console(width=80)
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        by = f"{threads} thread{'s' * (threads > 1)}"
        for m, n, k in SHAPES:
            console.print(table(f"M = {m}, N = {n}, K = {k}, {by}", products(m, n, k), m * n * k, arguments.rounds))
        for c in CONVOLUTIONS:
            console.print(table(f"{c}, {by}", convolutions(c, threads), c.multiplications, arguments.rounds))
        for m, n, k in WEIGHT_ONLY:
            title = f"floats times signs, M = {m}, N = {n}, K = {k}, {by}"
            console.print(table(title, weight_only_products(m, n, k), m * n * k, arguments.rounds))
        for channels, size in IMAGES:
            works, count = weight_only_convolutions(channels, size), 9 * channels**2 * size**2
            title = f"floats times signs, 3 x 3, {channels} channels, {size}², {by}"
            console.print(table(title, works, count, arguments.rounds))
    console.print(call_cost(arguments.rounds))


if __name__ == "__main__":
    main()
