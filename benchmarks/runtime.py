"""Whole binary networks beside what would run in their place: torch, and ONNX Runtime and OpenVINO if installed.

Latency by one pinned thread, all contenders of a table in one interleaved run: Bi-Real ResNet-18 with binary weights
and activations, images of 224 x 224, alone and 16 at a time; DeiT-tiny with binary weights, float inputs exact or
rounded to 8 bits, and with binary activations. Then 2 threads by 1, the files, and the memory of a fresh process that
loads one and runs once, over one that does neither. Weights are untrained; speed does not depend on them. The last
column is by how much the first packed form is faster, round by round.

Run: python benchmarks/runtime.py [--rounds 31] [--only resnet-1] [--record FILE] [--plot FILE] (about five minutes on
an idle machine; needs timm). README's table is of benchmarks/recorded/runtime.jsonl.
"""

import argparse
import copy
import dataclasses
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn

import proxconnect as pc
from proxconnect._support.example import tensors_in
from proxconnect.cli.bench import peak_memory
from proxconnect.cli.bench.benchmark import FILES, FLOAT, Contest
from proxconnect.cli.bench.profile import SelfTime, by_kind, profile
from proxconnect.cli.bench.tables import milliseconds
from proxconnect.cli.bench.timing import Spread, interleaved, quotients, threads
from proxconnect.cli.networks import FloatNetwork, difference, named, run, with_batch
from proxconnect.inspection import plots
from proxconnect.inspection.machine import Machine

RESNET, DEIT = "bireal_resnet18", "deit_tiny_patch16_224"
CONTESTS = {"resnet-1": (RESNET, 1), "resnet-16": (RESNET, 16), "deit-1": (DEIT, 1)}
STORED = ("resnet18", RESNET, DEIT)
"""Whose files are measured: ResNet-18 also in the common form, whose shortcuts are binary too."""
SMALLEST = {"remainder": "int8", "vectors": "float16"}


@dataclass(frozen=True)
class Form:
    """One way to make a network binary and to pack it."""

    activations: str | None
    packing: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of `pc.pack`."""


FORMS: Mapping[str, Mapping[str, Form]] = {
    RESNET: {
        "packed": Form("poly"),
        "packed, fast floats": Form("poly", {"floats": "fast"}),
        "packed, int8 remainder": Form("poly", {"remainder": "int8"}),
    },
    DEIT: {
        "packed BW": Form(None),
        "packed BW, int8": Form(None, {"inputs": "int8", "remainder": "int8"}),
        "packed BWA": Form("poly"),
        "packed BWA, fast floats": Form("poly", {"floats": "fast"}),
        "packed BWA, int8": Form("poly", {"remainder": "int8", "floats": "fast"}),
    },
}


@dataclass(frozen=True)
class Result:
    """A table."""

    title: str
    contenders: list[dict[str, Any]]
    absent: Mapping[str, str]
    batch: int
    parts: tuple[SelfTime, ...]
    """Where the time of the first packed form goes."""


def binary_of(network: FloatNetwork, model: nn.Module, activations: str | None) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GELU leaves a sign more often than it should
        return pc.binarize(copy.deepcopy(model), "bnn++", activations, keep=network.keep).eval()


def contest(name: str, batch: int, rounds: int) -> Result:
    """Everything that runs the network, by one thread, on one pinned core."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = named(name)
    model = network.build().eval().requires_grad_(False)
    assert network.example is not None
    example = with_batch(network.example(model), batch)
    binaries = {form.activations: binary_of(network, model, form.activations) for form in FORMS[name].values()}
    packed = {title: pc.pack(binaries[form.activations], **form.packing) for title, form in FORMS[name].items()}
    with torch.inference_mode():
        apart = {
            title: difference(
                tensors_in(run(binaries[form.activations], example)), tensors_in(run(packed[title], example))
            )
            for title, form in FORMS[name].items()
        }  # fmt: skip
        binary = binaries[FORMS[name][next(iter(packed))].activations]
        with tempfile.TemporaryDirectory() as folder:
            held = Contest(network.title, model, binary, packed, apart, 1, rounds, Path(folder), lambda _: None)
            contenders = held.contenders(example, (batch,))
        parts = profile(next(iter(packed.values())), example, 5)
    return Result(network.title, contenders, held.absent, batch, parts)


def scaling(name: str, batch: int, rounds: int) -> Spread:
    """How many times as fast 2 threads are as 1."""
    network = named(name)
    model = network.build().eval().requires_grad_(False)
    assert network.example is not None
    form = next(iter(FORMS[name].values()))
    small = pc.pack(binary_of(network, model, form.activations), **form.packing)
    example = with_batch(network.example(model), batch)

    def by(count: int) -> object:
        with threads(count):
            return run(small, example)

    with torch.inference_mode():
        times = interleaved({"1": partial(by, 1), "2": partial(by, 2)}, rounds)
    return Spread.of(quotients(times["1"], times["2"]))


def sizes(name: str) -> dict[str, dict[str, Any]]:
    """Bytes of the files, and of memory over that of a bare process."""
    network = named(name)
    model = network.build().eval().requires_grad_(False)
    assert network.example is not None
    form = next(iter(FORMS[name].values())) if name in FORMS else Form(None)
    binary = binary_of(network, model, form.activations)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        torch.save(model.state_dict(), folder / FILES[FLOAT])
        files = {"float": (folder / FILES[FLOAT]).stat().st_size}
        for title, options in {"packed, int8 and float16": SMALLEST, "packed": form.packing}.items():
            pc.save(pc.pack(binary, **options), folder / "packed.safetensors")
            files[title] = (folder / "packed.safetensors").stat().st_size
        peaks = peak_memory.peaks(name, network.example(model), folder, 1)
    return {"files": files, "peaks": peaks if isinstance(peaks, dict) else {}}


def fresh(work: Callable[..., Any], *arguments: Any, cores: int) -> Any:
    """What `work` answers in a process of its own, which is pinned before it starts a thread."""
    with ProcessPoolExecutor(1, get_context("spawn"), _pin, (cores,)) as pool:
        return pool.submit(work, *arguments).result()


def _pin(cores: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    torch.set_num_threads(cores)


def table(result: Result) -> Table:
    made = Table(title=f"{result.title}, batch {result.batch}", title_justify="left", box=box.SIMPLE_HEAD)
    made.add_column("", no_wrap=True)
    for heading in ("ms", "quartiles", "x float", "packed faster"):
        made.add_column(heading, justify="right", no_wrap=True)
    ours = result.contenders[1]["seconds"][result.batch]
    for one in result.contenders:
        latency, ratio = one["latency"], Spread.of(quotients(one["seconds"][result.batch], ours))
        made.add_row(
            "torch float32" if one["name"] == FLOAT else one["name"], milliseconds(latency.median),
            f"{milliseconds(latency.low)} to {milliseconds(latency.high)}", f"{one['speedup'].median:.2f}",
            f"{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})",
        )  # fmt: skip
    return made


def where(result: Result) -> str:
    """What takes the first packed form's time."""
    seconds = by_kind(result.parts)
    whole = sum(seconds.values())
    told = (f"{kind} {100 * amount / whole:.0f} %" for kind, amount in list(seconds.items())[:6])
    return f"Of {1e3 * whole:.3g} ms, module by module: {', '.join(told)}"


def show_contest(console: Console, name: str, batch: int, rounds: int) -> Result:
    result = fresh(contest, name, batch, rounds if batch == 1 else max(1, rounds // 3), cores=1)
    console.print(table(result))
    for rival, reason in result.absent.items():
        console.print(f"Without {rival}: {reason}")
    console.print(where(result), "\n")
    return result


def show_the_rest(console: Console, rounds: int) -> dict[str, Any]:
    """2 threads by 1, and sizes."""
    scaled = fresh(scaling, RESNET, 16, max(1, rounds // 2), cores=2)
    console.print(f"2 threads by 1, {RESNET}, batch 16: {scaled.median:.2f} ({scaled.low:.2f} to {scaled.high:.2f})")
    measured = {name: sizes(name) for name in STORED}
    for name, found in measured.items():
        for what, title in (("files", "file"), ("peaks", "peak memory over a bare process")):
            told = ", ".join(f"{kind} {amount / 1e6:.2f} MB" for kind, amount in found[what].items())
            console.print(f"{name}, {title}: {told}")
    return {"two_threads_by_one": dataclasses.asdict(scaled), "sizes": measured}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31, help="of single inputs; batches have a third of them")
    parser.add_argument("--only", nargs="+", choices=CONTESTS, help="these tables, and nothing else")
    parser.add_argument("--record", type=Path, metavar="FILE", help="add all numbers to it as a line of JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    console = Console(width=80, highlight=False)
    torch.set_num_threads(1)
    console.print(str(Machine.here()))
    results = [show_contest(console, *CONTESTS[key], arguments.rounds) for key in arguments.only or CONTESTS]
    report: dict[str, Any] = {
        "machine": dataclasses.asdict(Machine.here()),
        "contests": [dataclasses.asdict(one) for one in results],
    }
    if not arguments.only:
        report |= show_the_rest(console, arguments.rounds)
    if arguments.record:
        with arguments.record.open("a") as record:
            print(json.dumps(report), file=record)
    if arguments.plot:
        shown = {
            f"{result.title}, batch {result.batch}": {
                c["name"]: dataclasses.astuple(c["latency"]) for c in result.contenders
            }
            for result in results
        }
        plots.save(plots.plot_contests(shown), arguments.plot)


if __name__ == "__main__":
    main()
