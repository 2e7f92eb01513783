"""What one training step costs with binary weights, ours and others', beside full precision on the same layers.

A step is forward, backward, optimizer and zero_grad. Each round takes one step of every contender, in rotated order, so
that a busy machine slows all alike, and costs are ratios to `fp`. DeiT needs timm; brevitas and torchao are compared
where they are installed.

Run: OMP_NUM_THREADS=1 python benchmarks/training.py --model deit-tiny --rounds 9 [--compile] [--memory | --denormal]
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple, TypeVar

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn import functional

import other_trainers
import proxconnect as pc
from other_trainers import Built, Optimize
from proxconnect._support.extras import require
from proxconnect._support.heap import keep_freed_memory
from proxconnect.inspection.memory import reset_peak
from proxconnect.training.models.residual import bireal_resnet20

WARM_UP = 3
SCHEDULE = 100_000  # steps until μ reaches its end: it moves at each step here and stays soft
USUAL, DENORMAL = 0.02, 1e-39  # mean |latent| of --denormal
MEGABYTE = 1_000_000

Key = TypeVar("Key")
Report = tuple[Table, dict[str, Any]]
"""A table, and the numbers that it was made from."""


@dataclass(frozen=True)
class Workload:
    """A model, the shape of its batch, and the optimizer that it is usually trained by."""

    make: Callable[[], nn.Module]
    images: tuple[int, ...]
    classes: int
    optimizer: type[torch.optim.Optimizer]
    settings: dict[str, float]


def study_network() -> nn.Module:
    return bireal_resnet20(in_channels=1, width=8, stem_stride=2)


def deit_tiny() -> nn.Module:
    model: nn.Module = require("timm", "test").create_model("deit_tiny_patch16_224")
    return model


WORKLOADS = {
    "resnet20": Workload(bireal_resnet20, (128, 3, 32, 32), 10, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "deit-tiny": Workload(deit_tiny, (8, 3, 224, 224), 1000, torch.optim.AdamW, {"lr": 1e-3}),
    "study": Workload(study_network, (128, 1, 28, 28), 10, torch.optim.AdamW, {"lr": 0.01}),
}


def full_precision(model: nn.Module, names: Sequence[str], optimize: Optimize) -> Built:
    return model, optimize(model.parameters())


def ours(model: nn.Module, names: Sequence[str], optimize: Optimize, *, pair: str) -> Built:
    pc.binarize(model, weights=pair)  # the layers of `names`, as `plan` gave them
    optimizer = optimize(model.parameters())
    pc.Sharpening(optimizer, model, steps=SCHEDULE)
    return model, optimizer


CONTENDERS: dict[str, Callable[[nn.Module, Sequence[str], Optimize], Built]] = {
    "fp": full_precision,
    **{name: partial(ours, pair=name) for name in pc.PAIRS if name != "fp"},
    "straight-through": other_trainers.straight_through,
    "brevitas": other_trainers.brevitas,
    "torchao-parq": partial(other_trainers.parq, hard=False),
    "torchao-hard": partial(other_trainers.parq, hard=True),
}
"""From a float model, the names of the layers to make binary and what makes an optimizer: what to train."""

USUAL_CONTENDERS = ("bc", "bnn+", "bnn++", "straight-through", "brevitas", "torchao-parq", "torchao-hard")


class Contender:
    """A model in training, warmed up, with the seconds that its timed steps took.

    Args:
        name: of `CONTENDERS`.
        workload: what it trains; every contender starts at the same weights.
        compiled: whether torch.compile compiles the model.
        magnitude: the mean |latent| of each binary layer, where it then stays, since the learning rate is 0; None for
            the usual initialisation and learning rate.
    """

    def __init__(self, name: str, workload: Workload, *, compiled: bool, magnitude: float | None = None) -> None:
        torch.manual_seed(0)
        model = workload.make()
        self.images, self.labels = torch.randn(workload.images), torch.randint(workload.classes, workload.images[:1])
        binary, settings = pc.plan(model).binary, dict(workload.settings)
        if magnitude is not None:
            set_magnitude([model.get_submodule(layer).weight for layer in binary], magnitude)
            settings |= {"lr": 0.0, "weight_decay": 0.0}
        self.model, self.optimizer = CONTENDERS[name](model, binary, partial(workload.optimizer, **settings))
        self.call = torch.compile(self.model) if compiled else self.model
        before = frames_compiled()
        for _ in range(WARM_UP):
            self.step()
        self.frames, self.frames_again = frames_compiled() - before, 0
        self.mu_before = self.mu
        self.seconds: list[float] = []

    def step(self) -> None:
        functional.cross_entropy(self.call(self.images), self.labels).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def timed_step(self, clock: Callable[[], float]) -> None:
        before, start = frames_compiled(), clock()
        self.step()
        self.seconds.append(clock() - start)
        self.frames_again += frames_compiled() - before

    @property
    def mu(self) -> float | None:
        """The sharpness of the first quantizer that has one."""
        found = (m for m in self.model.modules() if isinstance(m, pc.Quantizer) and m.sharpness)
        return next((float(quantizer.mu) for quantizer in found), None)

    @property
    def defect(self) -> str | None:
        """What the timed steps did that they should not."""
        if self.frames_again:
            return f"compiled {self.frames_again} frames again in the timed steps"
        return "its μ did not move" if self.mu is not None and self.mu == self.mu_before else None

    @property
    def held(self) -> int:
        """Bytes of parameters, buffers and optimizer state between two steps."""
        states = [value for state in self.optimizer.state.values() for value in state.values()]
        tensors = [*self.model.parameters(), *self.model.buffers(), *filter(torch.is_tensor, states)]
        return sum({tensor.data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}.values())


def set_magnitude(weights: Sequence[Tensor], magnitude: float) -> None:
    """Scale each to this mean absolute value."""
    with torch.no_grad():
        for weight in weights:
            weight.div_(weight.abs().mean()).mul_(magnitude)


def frames_compiled() -> int:
    """Frames that torch.compile has compiled in this process."""
    return int(counters["frames"]["total"])


def build(makers: Mapping[Key, Callable[[], Contender]]) -> tuple[dict[Key, Contender], dict[Key, str]]:
    """The contenders that can be built and trained, and of the others why not."""
    built, failed = {}, {}
    for key, make in makers.items():
        try:
            built[key] = make()
        except Exception as error:  # others' code may raise anything
            failed[key] = reason_of(error)
    if not built:
        raise SystemExit(next(iter(failed.values())))
    return built, failed


def reason_of(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def interleave(contenders: Sequence[Contender], options: argparse.Namespace) -> None:
    """Time one step of each in every round; each round begins with another one."""
    clock = process_time if options.cpu_time else perf_counter
    gc.disable()
    for number in range(options.rounds):
        gc.collect()
        first = number % len(contenders)
        for contender in (*contenders[first:], *contenders[:first]):
            contender.timed_step(clock)
    gc.enable()


class Ratio(NamedTuple):
    """How many times as long as a reference something takes: the ratio of medians, and those within rounds."""

    of_medians: float
    median: float
    low: float
    high: float

    @classmethod
    def between(cls, seconds: Sequence[float], reference: Sequence[float]) -> "Ratio":
        ratios = [a / b for a, b in zip(seconds, reference, strict=True)]
        tenths = statistics.quantiles(ratios, n=10, method="inclusive")
        of_medians = statistics.median(seconds) / statistics.median(reference)
        return cls(of_medians, statistics.median(ratios), tenths[0], tenths[-1])

    def cells(self) -> tuple[str, str, str]:
        return f"{self.of_medians:.3f}", f"{self.median:.3f}", f"{self.low:.3f}-{self.high:.3f}"


def time_steps(model: str, options: argparse.Namespace) -> Report:
    """The step of each contender against that of fp."""
    make = partial(Contender, workload=WORKLOADS[model], compiled=options.compile)
    contenders, failed = build({name: partial(make, name) for name in options.only})
    interleave(list(contenders.values()), options)
    table = columns("ms", "of medians", "in rounds", "10-90 %", *(["frames"] if options.compile else []))
    for name, contender in contenders.items():
        ratio = Ratio.between(contender.seconds, contenders["fp"].seconds)
        frames = [f"{contender.frames} + {contender.frames_again}"] if options.compile else []
        table.add_row(name, milliseconds(contender.seconds), *ratio.cells(), *frames)
        if contender.defect:
            failed[name] = contender.defect
    return table, {
        "seconds": {name: contender.seconds for name, contender in contenders.items()},
        "frames": {name: [contender.frames, contender.frames_again] for name, contender in contenders.items()},
        "failed": failed,
    }


def time_denormal_steps(model: str, options: argparse.Namespace) -> Report:
    """The step of each contender with denormal latents against its own with usual ones."""
    make = partial(Contender, workload=WORKLOADS[model], compiled=options.compile)
    pairs = [(name, size) for name in options.only for size in (USUAL, DENORMAL)]
    contenders, failed = build({(name, size): partial(make, name, magnitude=size) for name, size in pairs})
    interleave(list(contenders.values()), options)
    seconds = {key: contender.seconds for key, contender in contenders.items()}
    table = columns("usual ms", "of medians", "in rounds", "10-90 %")
    for name in options.only:
        if (name, USUAL) in seconds and (name, DENORMAL) in seconds:
            ratio = Ratio.between(seconds[name, DENORMAL], seconds[name, USUAL])
            table.add_row(name, milliseconds(seconds[name, USUAL]), *ratio.cells())
    return table, {
        "seconds": {f"{name} {size:g}": values for (name, size), values in seconds.items()},
        "failed": {name: reason for (name, _), reason in failed.items()},
    }


def weigh_steps(model: str, options: argparse.Namespace) -> Report:
    """What each contender holds between steps and what a step takes beyond that, against fp."""
    weighed = {name: in_fresh_process(model, name, options) for name in options.only}
    failed = {name: weighed.pop(name)["failed"] for name in options.only if "failed" in weighed[name]}
    if "fp" in failed:
        raise SystemExit(failed["fp"])
    table = columns("held", "step", "held beyond fp", "step beyond fp", "both beyond fp")
    for name, answer in weighed.items():
        held, step = (answer[part] - weighed["fp"][part] for part in ("held", "step"))
        beyond = [f"{number:+.1f}".replace("-0.0", "+0.0") for number in (held, step, held + step)]
        table.add_row(name, f"{answer['held']:.1f}", f"{answer['step']:.1f}", *beyond)
    return table, {"megabytes": weighed, "failed": failed}


def in_fresh_process(model: str, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """What `weigh` says of one contender in a process of its own, which gives back memory at once."""
    flags = ["--model", model, "--threads", str(options.threads), *(["--compile"] if options.compile else [])]
    environment = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, __file__, *flags, "--weigh", name], stdout=subprocess.PIPE, text=True, check=True,
        env=os.environ | environment,
    )  # fmt: skip
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def weigh(name: str, workload: Workload, *, compiled: bool) -> dict[str, Any]:
    """Megabytes that the contender holds, and the peak of resident memory in one step above that before it."""
    try:
        contender = Contender(name, workload, compiled=compiled)
    except Exception as error:  # others' code may raise anything
        return {"failed": reason_of(error)}
    gc.collect()
    before = resident("VmRSS")
    reset_peak()
    contender.step()
    return {"held": contender.held / MEGABYTE, "step": (resident("VmHWM") - before) / MEGABYTE}


def resident(field: str) -> int:
    """Bytes resident now ("VmRSS") or at the peak ("VmHWM")."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def milliseconds(seconds: Sequence[float]) -> str:
    return f"{1000 * statistics.median(seconds):.1f}"


def columns(*headings: str) -> Table:
    table = Table()
    table.add_column("contender", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def title(model: str, options: argparse.Namespace) -> str:
    workload = WORKLOADS[model]
    settings = [
        workload.optimizer.__name__,
        f"torch {torch.__version__}",
        *(["compiled"] if options.compile else []),
        f"{options.threads} thread{'s' if options.threads > 1 else ''}",
        *([] if options.memory else [f"{options.rounds} rounds"]),
        *(["CPU time"] if options.cpu_time else []),
    ]
    return f"{model} {'x'.join(map(str, workload.images))}, {', '.join(settings)}"


MEASURES = {
    time_steps: """\
Median ms; in times of fp's: the ratio of medians, the median and spread within
rounds.""",
    time_denormal_steps: f"""\
Median ms with latents of mean size {USUAL:g}; with {DENORMAL:g} in times of that: the
ratio of medians, the median and spread within rounds.""",
    weigh_steps: """\
MB. held: parameters, buffers and optimizer state. step: the peak of resident
memory in one step (VmHWM, reset by /proc/self/clear_refs) above that before it.""",
}
"""What can be measured, and how to read its table."""

FRAMES = "frames: compiled in warm-up + in the timed steps; 0 where another one's serve."


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=[*WORKLOADS, "both"], default="both",
                        help="both: without `study`, the network of the study of record")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=9, help="timed steps of each contender, 2 or more (9)")
    parser.add_argument("--threads", type=int, default=1, help="torch.set_num_threads (1)")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=USUAL_CONTENDERS, metavar="NAME",
                        help=f"beside fp, of {', '.join(CONTENDERS)}")  # fmt: skip
    parser.add_argument("--cpu-time", action="store_true", help="time by the CPU, which a busy machine disturbs less")
    parser.add_argument("--compile", action="store_true", help="torch.compile the models, and count the frames")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw numbers")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--memory", action="store_true", help="memory instead of time; on Linux")
    other.add_argument("--denormal", action="store_true", help="time with denormal latents against usual ones")
    parser.add_argument("--weigh", choices=CONTENDERS, help=argparse.SUPPRESS)  # --memory in its fresh processes
    options = parser.parse_args()
    options.only = list(dict.fromkeys(["fp", *options.only]))
    return options


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    torch._dynamo.config.recompile_limit = 64  # contenders share the code of the model's forward
    if options.weigh:
        print(json.dumps(weigh(options.weigh, WORKLOADS[options.model], compiled=options.compile)))
        return
    if not options.memory:
        keep_freed_memory()
    measure = weigh_steps if options.memory else time_denormal_steps if options.denormal else time_steps
    numbers: dict[str, Any] = {"torch": torch.__version__, "threads": options.threads, "compiled": options.compile}
    console = Console(width=80, highlight=False)
    for model in ("resnet20", "deit-tiny") if options.model == "both" else (options.model,):
        table, numbers[model] = measure(model, options)
        console.print(title(model, options), table, MEASURES[measure], sep="\n")
        if options.compile and measure is time_steps:
            console.print(FRAMES)
        for name, reason in numbers[model]["failed"].items():
            console.print(f"{name}: {reason}", markup=False)
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
