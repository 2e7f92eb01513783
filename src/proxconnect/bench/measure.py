"""A float network beside its packed form, and beside other engines that are installed."""

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from proxconnect import packed
from proxconnect.bench import layers, rivals
from proxconnect.bench.examples import batch_of, shapes_of, shown, with_batch
from proxconnect.bench.machine import Machine
from proxconnect.bench.timing import Spread, Work, interleaved, quotients, threads
from proxconnect.conversion import Plan, binarize
from proxconnect.example import arguments, tensors_in
from proxconnect.layers import Accumulator

Mode = Literal["BW", "BWA", "BWAA"]
MODES: tuple[Mode, ...] = get_args(Mode)
"""Binary weights; activations too; and the sums of their products in a narrow accumulator."""

ACTIVATIONS = "poly"
"""The pair of the inputs; hard it is the sign, as every pair is."""

ACCUMULATOR = Accumulator(bits=8, overflow="wrap")

FLOAT, PACKED = "float", "packed"
FILES = {FLOAT: "float.pt", PACKED: "packed.safetensors"}
"""What `measure` writes: the float state dict, and the packed file."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What to measure."""

    weights: str = "bnn++"
    mode: Mode = "BW"
    keep: tuple[str, ...] | None = ("edges",)
    threads: int = field(default_factory=torch.get_num_threads)
    rounds: int = 11
    batches: tuple[int, ...] = (1, 8)
    """The batches whose throughput is measured."""


@dataclass(frozen=True)
class Contender:
    """One way to run the whole network."""

    name: str
    """"float" and "packed", by torch, or the name of an engine, which runs the float network."""
    version: str
    """That of torch or of the engine."""
    latency: Spread
    """Seconds of a run on the example."""
    speedup: Spread
    """Float by this, round by round."""
    throughput: Mapping[int, float]
    """Inputs a second, by size of batch."""
    difference: float
    """The largest |Δ| of its answers: the packed network's from the binary one's, an engine's from the float one's."""


@dataclass(frozen=True)
class Bench:
    """Everything that was measured; seconds and bytes."""

    title: str
    options: Options
    shapes: tuple[tuple[int, ...], ...]
    """Those of the inputs."""
    machine: Machine
    binary_layers: int
    weight_layers: int
    """Binary or not."""
    contenders: tuple[Contender, ...]
    """Float, packed, then other engines."""
    largest_answer: float
    """The largest magnitude among the answers of the binary network."""
    layers: tuple[layers.LayerTimes, ...]
    """In order of registration."""
    share: Spread
    """The part of a run of the packed network that its binary layers take."""
    files: Mapping[str, int]
    """Bytes on disk of the float state dict and of the packed file."""
    absent: Mapping[str, str]
    """Why an engine has no row: how to install it, or how it failed."""
    peaks: Mapping[str, int] = field(default_factory=dict)
    """The most bytes of memory that a fresh process took to load a file and run once, over one that did neither."""

    def contender(self, name: str) -> Contender:
        """The one of that name."""
        return next(contender for contender in self.contenders if contender.name == name)


def measure(title: str, model: nn.Module, example: Any, options: Options, folder: Path, say: Say) -> Bench:
    """Binarize and pack a copy of the float `model`, time both, and write `FILES` into `folder`.

    `example` is what `pc.summary` takes; `say` is told what is going on. ValueError where the model does not take it
    and for what cannot be binarized or packed.
    """
    say("binarizing and packing")
    model.eval().requires_grad_(False)
    with torch.no_grad():
        _require_runs(title, model, example)
    binary = _binarized(model, example, options).eval()
    small = _packed(binary)
    torch.save(model.state_dict(), folder / FILES[FLOAT])
    packed.save(small, folder / FILES[PACKED])
    units, plan = layers.units(model, small), cast(Plan, binary.binarization)
    with threads(options.threads), torch.inference_mode():
        hard = tensors_in(_run(binary, example))
        difference = _difference(hard, tensors_in(_run(small, example)))
        say("timing layer by layer")
        by_layer = layers.measure(units, model, small, example, options.rounds)
        share = layers.share(small, [unit.packed_form for unit in units], example, options.rounds)
        contest = _Contest(title, model, small, options, folder, say)
        contenders = contest.contenders(example, difference)
        return Bench(
            title, options, shapes_of(example), Machine.here(), len(plan.binary), len(plan.rows), contenders,
            max((float(t.abs().max()) for t in hard if t.numel()), default=0.0), tuple(by_layer), share,
            {name: (folder / file).stat().st_size for name, file in FILES.items()}, contest.absent,
        )  # fmt: skip


class _Contest:
    """The contenders on one input after another."""

    def __init__(
        self, title: str, model: nn.Module, small: nn.Module, options: Options, folder: Path, say: Say
    ) -> None:
        self.title, self.model, self.small, self.options = title, model, small, options
        self.folder, self.say = folder, say
        self.absent: dict[str, str] = {}
        self.versions = dict.fromkeys((FLOAT, PACKED), str(torch.__version__))
        self.differences: dict[str, float] = {}

    def contenders(self, example: Any, difference: float) -> tuple[Contender, ...]:
        """All that there are, measured on the example and on every batch of it."""
        own, sizes = batch_of(example), self.options.batches
        times = {own: self._times(example)}
        for size in sizes:
            if size not in times:
                batch = with_batch(example, size)
                _require_runs(f"{self.title}, in a batch of {size},", self.model, batch)
                times[size] = self._times(batch)
        latencies = {name: Spread.of(values) for name, values in times[own].items()}
        self.differences |= {FLOAT: 0.0, PACKED: difference}
        return tuple(
            Contender(
                name, self.versions[name], latency, Spread.of(quotients(times[own][FLOAT], times[own][name])),
                {size: size / Spread.of(times[size][name]).median for size in sizes if name in times[size]},
                self.differences[name],
            )
            for name, latency in latencies.items()
        )  # fmt: skip

    def _times(self, example: Any) -> dict[str, tuple[float, ...]]:
        works: dict[str, Work] = {FLOAT: lambda: _run(self.model, example), PACKED: lambda: _run(self.small, example)}
        works |= self._rivals(example)
        self.say(f"timing {' and '.join(works)} on {shown(shapes_of(example))}")
        return interleaved(works, self.options.rounds)

    def _rivals(self, example: Any) -> dict[str, Work]:
        """The engines that are installed and take the network; why not, in `absent`."""
        works: dict[str, Work] = {}
        for rival in rivals.RIVALS:
            if rival.name in self.absent:
                continue
            if rival.absence:
                self.absent[rival.name] = rival.absence
                continue
            self.say(f"making {rival.name}'s form")
            try:
                works[rival.name] = self._rival(rival, example)
            except Exception as error:  # whatever a converter of others raises, the rest is still to be measured
                self.absent[rival.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return works

    def _rival(self, rival: rivals.Rival, example: Any) -> Work:
        inputs, kwargs = arguments(self.model, example)
        if kwargs or not all(isinstance(value, Tensor) for value in inputs):
            raise TypeError("its inputs are no positional tensors")
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")  # a converter's, of its own ways
            run = rival.prepare(self.model, inputs, self.options.threads, self.folder)
        self.versions[rival.name] = rival.version
        expected = tensors_in(_run(self.model, example))
        self.differences.setdefault(rival.name, _difference(expected, rivals.answers(run)))
        return run


def _binarized(model: nn.Module, example: Any, options: Options) -> nn.Module:
    activations = None if options.mode == "BW" else ACTIVATIONS
    accumulator = ACCUMULATOR if options.mode == "BWAA" else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*has one sign only")  # it matters to training, not to speed
        try:
            return binarize(
                copy.deepcopy(model), options.weights, activations, accumulator=accumulator, keep=options.keep,
                example=example,
            )  # fmt: skip
        except ValueError as error:
            first, *table = str(error).splitlines()  # between them a line for every layer
            raise ValueError(f"{first} {table[-1]}" if table else first) from error


def _packed(binary: nn.Module) -> nn.Module:
    try:
        return packed.pack(binary)
    except TypeError as error:
        raise ValueError(str(error)) from error


def _run(model: nn.Module, example: Any) -> Any:
    args, kwargs = arguments(model, example)
    return model(*args, **kwargs)


def _require_runs(title: str, model: nn.Module, example: Any) -> None:
    try:
        _run(model, example)
    except Exception as error:
        shapes = shown(shapes_of(example))
        raise ValueError(f"{title} does not take {shapes} ({type(error).__name__}: {error})") from error


def _difference(expected: list[Tensor], got: list[Tensor]) -> float:
    """The largest |Δ| of two answers; infinite where they are not of the same shapes."""
    if [t.shape for t in expected] != [t.shape for t in got]:
        return float("inf")
    pairs = zip(expected, got, strict=True)
    return max((float((a.double() - b.double()).abs().max()) for a, b in pairs if a.numel()), default=0.0)
