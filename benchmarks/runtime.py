"""Whole binary networks beside what would run in their place: torch, and ONNX Runtime and OpenVINO if installed.

Latency by one pinned thread, all contenders of a table in one interleaved run, images of 224 x 224 and sentences of
128 tokens. Weights are untrained; speed does not depend on them. "1st faster" is by how much the first packed form is
faster, round by round, and "limit" the share of the time that multiply-adds alone would take (limits.py). Then 2
threads by 1, the files, and the memory of a fresh process that loads one and runs once, over one that does neither.

Run: python benchmarks/runtime.py [--rounds 31] [--only bireal-1] [--record FILE] [--plot FILE] (about ten minutes on an
idle machine; needs timm, torchvision and transformers). PROXCONNECT_INSTRUCTION_SET=avx2 ONEDNN_MAX_CPU_ISA=AVX2
ATEN_CPU_CAPABILITY=avx2 measures as if the processor had AVX2 alone: torch and OpenVINO are limited too, ONNX Runtime
is not. The tables of README and docs/speed.md are of benchmarks/recorded/runtime.jsonl.
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
import transformers
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import limits
import proxconnect as pc
from proxconnect._support.example import tensors_in
from proxconnect.cli.bench import peak_memory
from proxconnect.cli.bench.benchmark import FILES, FLOAT, Contest
from proxconnect.cli.bench.profile import profile
from proxconnect.cli.bench.tables import milliseconds
from proxconnect.cli.bench.timing import Spread, interleaved, quotients, threads
from proxconnect.cli.networks import FloatNetwork, difference, named, run, with_batch
from proxconnect.inspection import plots
from proxconnect.inspection.machine import Machine
from shares import Shares

SMALLEST = {"remainder": "int8", "vectors": "float16"}


@dataclass(frozen=True)
class Form:
    """One way to make a network binary and to pack it."""

    activations: str | None
    packing: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of `pc.pack`."""


BW: Mapping[str, Form] = {
    "packed BW": Form(None),
    "packed BW, int8": Form(None, {"inputs": "int8", "remainder": "int8"}),
}
BWA: Mapping[str, Form] = {
    "packed BWA": Form("poly"),
    "packed BWA, fast floats": Form("poly", {"floats": "fast"}),
    "packed BWA, int8": Form("poly", {"remainder": "int8", "floats": "fast"}),
}


class Sentences(nn.Module):
    """BERT of the size of MiniLM's sentence encoders, which takes token ids (batch, tokens) alone."""

    def __init__(self) -> None:
        super().__init__()
        config = transformers.BertConfig(
            hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
        )
        self.bert = transformers.BertModel(config, add_pooling_layer=False)

    def forward(self, ids: Tensor) -> Tensor:
        hidden: Tensor = self.bert(ids).last_hidden_state
        return hidden


MINILM = FloatNetwork("MiniLM, 128 tokens", Sentences, lambda _: (torch.randint(1000, (1, 128)),))


@dataclass(frozen=True)
class Subject:
    """What a table is about: a network, the number of inputs at once, and the forms that are packed."""

    network: Callable[[], FloatNetwork]
    batch: int
    forms: Mapping[str, Form]


BIREAL, RESNET, DEIT = "bireal_resnet18", "resnet18", "deit_tiny_patch16_224"
SUBJECTS = {
    "bireal-1": Subject(partial(named, BIREAL), 1, BWA),
    "bireal-8": Subject(partial(named, BIREAL), 8, BWA),
    "bireal-16": Subject(partial(named, BIREAL), 16, BWA),
    "resnet-1": Subject(partial(named, RESNET), 1, BW | BWA),
    "deit-1": Subject(partial(named, DEIT), 1, BW | BWA),
    "mobilenet-1": Subject(partial(named, "mobilenet_v2"), 1, BW | BWA),
    "minilm-1": Subject(lambda: MINILM, 1, BW),
}
STORED = {RESNET: Form(None), BIREAL: BWA["packed BWA"], DEIT: Form(None)}
"""Whose files are measured: ResNet-18 in the common form, whose shortcuts are binary too."""


@dataclass(frozen=True)
class Result:
    """A table."""

    title: str
    contenders: list[dict[str, Any]]
    absent: Mapping[str, str]
    batch: int
    limits: Mapping[str, float]
    """The least seconds of each packed form, if nothing but multiply-adds took time."""
    where: Mapping[str, Shares]
    """Where the time of each packed form goes."""


def binary_of(network: FloatNetwork, model: nn.Module, activations: str | None) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GELU leaves a sign more often than it should
        return pc.binarize(copy.deepcopy(model), "bnn++", activations, keep=network.keep).eval()


def contest(key: str, rounds: int) -> Result:
    """Everything that runs the network, by one thread, on one pinned core."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    subject = SUBJECTS[key]
    network, batch = subject.network(), subject.batch
    model = network.build().eval().requires_grad_(False)
    assert network.example is not None
    example = with_batch(network.example(model), batch)
    binaries = {form.activations: binary_of(network, model, form.activations) for form in subject.forms.values()}
    packed = {title: pc.pack(binaries[form.activations], **form.packing) for title, form in subject.forms.items()}
    with torch.inference_mode():
        apart = {
            title: difference(
                tensors_in(run(binaries[form.activations], example)), tensors_in(run(packed[title], example))
            )
            for title, form in subject.forms.items()
        }  # fmt: skip
        binary = binaries[list(subject.forms.values())[-1].activations]
        with tempfile.TemporaryDirectory() as folder:
            held = Contest(network.title, model, binary, packed, apart, 1, rounds, Path(folder), lambda _: None)
            contenders = held.contenders(example, (batch,))
        reached = limits.rates()
        least = {title: limits.seconds(form, example, reached) for title, form in packed.items()}
        where = {title: Shares.of(profile(form, example, 5)) for title, form in packed.items()}
    return Result(network.title, contenders, held.absent, batch, least, where)


def scaling(key: str, rounds: int) -> Spread:
    """How many times as fast 2 threads are as 1."""
    subject = SUBJECTS[key]
    network, form = subject.network(), next(iter(subject.forms.values()))
    model = network.build().eval().requires_grad_(False)
    assert network.example is not None
    small = pc.pack(binary_of(network, model, form.activations), **form.packing)
    example = with_batch(network.example(model), subject.batch)

    def by(count: int) -> object:
        with threads(count):
            return run(small, example)

    with torch.inference_mode():
        times = interleaved({"1": partial(by, 1), "2": partial(by, 2)}, rounds)
    return Spread.of(quotients(times["1"], times["2"]))


def sizes(name: str) -> dict[str, dict[str, Any]]:
    """Bytes of the files, and of memory over that of a bare process."""
    network, form = named(name), STORED[name]
    model = network.build().eval().requires_grad_(False)
    assert network.example is not None
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
    made = Table(
        title=f"{result.title}, batch {result.batch}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    made.add_column("", no_wrap=True)
    for heading in ("ms", "quartiles", "x float", "1st faster", "limit"):
        made.add_column(heading, justify="right", no_wrap=True)
    ours = result.contenders[1]["seconds"][result.batch]
    for one in result.contenders:
        latency, ratio = one["latency"], Spread.of(quotients(one["seconds"][result.batch], ours))
        limit = result.limits.get(one["name"])
        made.add_row(
            "torch float32" if one["name"] == FLOAT else one["name"], milliseconds(latency.median),
            f"{milliseconds(latency.low)}-{milliseconds(latency.high)}", f"{one['speedup'].median:.2f}",
            f"{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})",
            "" if limit is None else f"{100 * limit / latency.median:.0f} %",
        )  # fmt: skip
    return made


def show_contest(console: Console, key: str, rounds: int) -> Result:
    result: Result = fresh(contest, key, rounds if SUBJECTS[key].batch == 1 else max(1, rounds // 3), cores=1)
    console.print(table(result))
    for rival, reason in result.absent.items():
        console.print(f"Without {rival}: {reason}")
    for title, where in result.where.items():
        console.print(f"{title}: {where}")
    console.print()
    return result


def show_the_rest(console: Console, rounds: int) -> dict[str, Any]:
    """2 threads by 1, and sizes."""
    scaled = fresh(scaling, "bireal-16", max(1, rounds // 2), cores=2)
    console.print(f"2 threads by 1, {BIREAL}, batch 16: {scaled.median:.2f} ({scaled.low:.2f} to {scaled.high:.2f})")
    measured = {name: sizes(name) for name in STORED}
    for name, found in measured.items():
        for what, title in (("files", "file"), ("peaks", "peak memory over a bare process")):
            told = ", ".join(f"{kind} {amount / 1e6:.2f} MB" for kind, amount in found[what].items())
            console.print(f"{name}, {title}: {told}")
    return {"two_threads_by_one": dataclasses.asdict(scaled), "sizes": measured}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31, help="of single inputs; batches have a third of them")
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, help="these tables, and nothing else")
    parser.add_argument("--record", type=Path, metavar="FILE", help="add all numbers to it as a line of JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    console = Console(width=80, highlight=False)
    torch.set_num_threads(1)
    console.print(str(Machine.here()))
    results = [show_contest(console, key, arguments.rounds) for key in arguments.only or SUBJECTS]
    report: dict[str, Any] = {
        "machine": dataclasses.asdict(Machine.here()),
        "class": str(Machine.here().instruction_set),
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
