"""Two revisions of proxconnect beside each other, in one interleaved run: is anything slower than before?

Each revision is the Python of an environment in which it is installed with its kernels. Every revision runs in one
process on one pinned core; the processes take turns, a few calls at a time. The ratio is that of one round, new by old.
Both processes are started several times, because where memory lies can make a product three times slower.

Run: python benchmarks/revisions.py OLD/bin/python NEW/bin/python [--starts 5] [--rounds 7] [--only products ...]
(about ten minutes; the networks need timm)
"""

import argparse
import copy
import os
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import proxconnect as pc
from proxconnect import kernels

Work = Callable[[], object]
LEAST = 0.02
"""Seconds that one turn takes at least."""


def products() -> Iterator[tuple[str, Work]]:
    for m, n, k in ((1, 64, 64), (1, 4096, 4096), (16, 4096, 4096), (197, 768, 192), (1024, 1024, 1024)):
        x, bits = torch.randn(m, k), torch.randint(256, (n * k // 8,), dtype=torch.uint8)
        made, scale = kernels.panels(bits, n, k), torch.rand(n)
        for operator in (kernels.binary_linear, kernels.weight_only_linear, kernels.dynamic_int8_linear):
            yield f"{operator.__name__} {m} x {k} to {n}", lambda o=operator, x=x, w=made, n=n, s=scale: o(x, w, n, s)


def convolutions() -> Iterator[tuple[str, Work]]:
    for channels, size in ((64, 56), (128, 28), (256, 14), (512, 7)):
        x = torch.randn(1, channels, size, size).contiguous(memory_format=torch.channels_last)
        shape = (channels, channels, 3, 3)
        bits = torch.randint(256, (channels * channels * 9 // 8,), dtype=torch.uint8)
        for operator, made in (
            (kernels.binary_conv2d, kernels.conv_panels(bits, shape)),
            (kernels.weight_only_conv2d, kernels.patch_panels(bits, shape)),
            (kernels.dynamic_int8_conv2d, kernels.patch_panels(bits, shape)),
        ):
            yield (
                f"{operator.__name__} {channels} channels, {size}²",
                lambda o=operator, x=x, w=made, s=shape: o(x, w, s, padding=(1, 1)),
            )


def small_networks() -> Iterator[tuple[str, Work]]:
    """Networks whose time is mostly Python."""
    mlp = nn.Sequential(*(layer for _ in range(4) for layer in (nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU())))
    cnn = nn.Sequential(*(layer for _ in range(4) for layer in (nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16))))
    for title, model, x in (("MLP", mlp, torch.randn(1, 64)), ("CNN", cnn, torch.randn(1, 16, 8, 8))):
        for form, activations in (("BW", None), ("BWA", "bnn")):
            packed = pc.pack(pc.binarize(copy.deepcopy(model), "bnn++", activations).eval())
            yield f"small {title}, packed {form}", lambda packed=packed, x=x: packed(x)


def networks() -> Iterator[tuple[str, Work]]:
    from timm import create_model

    from proxconnect.training.models.bireal import bireal_resnet18

    x = torch.randn(1, 3, 224, 224)
    for title, model, activations, options in (
        ("Bi-Real ResNet-18", bireal_resnet18(), "poly", {}),
        ("Bi-Real ResNet-18, int8 remainder", bireal_resnet18(), "poly", {"remainder": "int8"}),
        ("DeiT-tiny BW", create_model("deit_tiny_patch16_224"), None, {}),
        ("DeiT-tiny BW, int8", create_model("deit_tiny_patch16_224"), None, {"inputs": "int8", "remainder": "int8"}),
        ("DeiT-tiny BWA, fast floats", create_model("deit_tiny_patch16_224"), "poly", {"floats": "fast"}),
    ):
        packed = pc.pack(pc.binarize(model, "bnn++", activations).eval(), **options)
        yield title, lambda packed=packed, x=x: packed(x)


def training() -> Iterator[tuple[str, Work]]:
    from proxconnect.training.models.residual import bireal_resnet20

    for pair in ("bnn++", "pc"):
        model = pc.binarize(bireal_resnet20(), pair, "bnn")
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
        pc.Sharpening(optimizer, model, steps=100_000)
        x, y = torch.randn(16, 3, 32, 32), torch.randint(10, (16,))
        yield f"training step, ResNet-20, {pair}", lambda m=model, o=optimizer, x=x, y=y: step(m, o, x, y)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    optimizer.zero_grad()


GROUPS: Mapping[str, Callable[[], Iterator[tuple[str, Work]]]] = {
    "products": products, "convolutions": convolutions, "small-networks": small_networks, "networks": networks,
    "training": training,
}  # fmt: skip


def serve(group: str) -> None:
    """Name the works of a group, then time the one of each number read, in seconds a call."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    works = dict(GROUPS[group]())
    counts = {title: calls(work, training=group == "training") for title, work in works.items()}
    print("\t".join(works), flush=True)
    for line in sys.stdin:
        title = list(works)[int(line)]
        start = perf_counter()
        with torch.inference_mode(group != "training"):
            for _ in range(counts[title]):
                works[title]()
        print((perf_counter() - start) / counts[title], flush=True)


def calls(work: Work, *, training: bool) -> int:
    """How many calls one turn makes, after a warm-up."""
    with torch.inference_mode(not training):
        for _ in range(3):
            start = perf_counter()
            work()
            once = perf_counter() - start
    return max(1, round(LEAST / once))


def ask(server: "subprocess.Popen[str]", number: int) -> float:
    assert server.stdin is not None
    server.stdin.write(f"{number}\n")
    server.stdin.flush()
    return float(answer(server))


def answer(server: "subprocess.Popen[str]") -> str:
    assert server.stdout is not None
    return server.stdout.readline().rstrip("\n")


def started(python: str, group: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        ["taskset", "-c", "0", python, __file__, "--serve", group],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def compare(group: str, pythons: list[str], starts: int, rounds: int, table: Table) -> None:
    times: dict[str, tuple[list[float], list[float]]] = {}
    for _ in range(starts):
        servers = [started(python, group) for python in pythons]
        titles, others = (answer(server).split("\t") for server in servers)
        assert titles == others
        for turn in range(rounds):
            for number, title in enumerate(titles):
                for which in (0, 1) if turn % 2 else (1, 0):
                    times.setdefault(title, ([], []))[which].append(ask(servers[which], number))
        for server in servers:
            server.communicate()
    for title, (old, new) in times.items():
        ratios = sorted(after / before for before, after in zip(old, new, strict=True))
        low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        figures = f"{1e6 * statistics.median(old):.1f}", f"{1e6 * statistics.median(new):.1f}"
        table.add_row(title, *figures, f"{statistics.median(ratios):.3f}", f"{low:.3f} to {high:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pythons", nargs="*", metavar="PYTHON", help="of the old and of the new revision")
    parser.add_argument("--starts", type=int, default=5, help="how often both processes are started")
    parser.add_argument("--rounds", type=int, default=7, help="of each start")
    parser.add_argument("--only", choices=GROUPS, nargs="+", default=list(GROUPS))
    parser.add_argument("--serve", choices=GROUPS, help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.serve is not None:
        serve(parsed.serve)
        return
    if len(parsed.pythons) != 2:
        parser.error("name two Pythons, of the old and of the new revision")
    table = Table("work", "old, µs", "new, µs", "new by old", "middle half", title="One thread")
    for group in parsed.only:
        compare(group, parsed.pythons, parsed.starts, parsed.rounds, table)
    Console().print(table)


if __name__ == "__main__":
    main()
