"""The options and the results of a bench."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch

from proxconnect.cli.bench.generation import Generation
from proxconnect.cli.bench.layers import LayerTimes
from proxconnect.cli.bench.profile import Part
from proxconnect.cli.bench.timing import Spread
from proxconnect.inspection.machine import Machine

Mode = Literal["BW", "BWA", "BWAA"]
MODES: tuple[Mode, ...] = get_args(Mode)
"""Binary weights; binary activations too; and a narrow accumulator for the sums of their products."""

FLOAT, PACKED = "float", "packed"
FILES = {FLOAT: "float.pt", PACKED: "packed.safetensors"}
"""The files that `measure` writes: the float state dict, and the packed file."""

Say = Callable[[str], None]
"""Takes a line on what is going on."""


@dataclass(frozen=True)
class Options:
    """Options of a bench."""

    weights: str = "bnn++"
    mode: Mode = "BW"
    keep: tuple[str, ...] | None = ("edges",)
    packing: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of `pc.pack`."""
    threads: int = field(default_factory=torch.get_num_threads)
    rounds: int = 11
    batches: tuple[int, ...] = (1, 8)
    """The sizes of batches for which the throughput is measured."""
    prompt: int = 128
    """The length of the prompt of a language model, in tokens."""
    tokens: int = 32
    """The tokens that it then writes, 2 or more."""


@dataclass(frozen=True)
class Contender:
    """One way to run the whole network."""

    name: str
    """"float" and "packed" for torch, or the name of an engine."""
    version: str
    """The version of torch or of the engine."""
    latency: Spread
    """Seconds of a run on the example."""
    speedup: Spread
    """Seconds of float by these, round by round."""
    seconds: Mapping[int, tuple[float, ...]]
    """Seconds of a run, one per round, by size of batch."""
    difference: float
    """The largest |Δ| to the answers of the network that it runs; for the packed network, of the binary one."""

    def throughput(self, batch: int) -> float:
        """Return the inputs per second, in batches of that size."""
        return batch / Spread.of(self.seconds[batch]).median


@dataclass(frozen=True)
class Bench:
    """Everything that was measured; seconds and bytes."""

    title: str
    options: Options
    shapes: tuple[tuple[int, ...], ...]
    """The shapes of the inputs."""
    machine: Machine
    binary_layers: int
    weight_layers: int
    """All layers with weights."""
    contenders: tuple[Contender, ...]
    """Float, packed, then other engines."""
    largest_answer: float
    """The largest magnitude among the answers of the binary network."""
    parts: tuple[Part, ...]
    """The parts of a run of the packed network, in the order of their first calls."""
    layers: tuple[LayerTimes, ...]
    """In order of registration."""
    share: float
    """The share of the packed network's time that its binary layers take, with what is fused into them."""
    files: Mapping[str, int]
    """Bytes on disk of the float state dict and of the packed file."""
    generation: Generation | None
    """The speed of writing; None unless it is a causal language model of transformers."""
    absent: Mapping[str, str]
    """The reasons why engines have no row: how to install them, or how they failed."""
    peaks: Mapping[str, int] = field(default_factory=dict)
    """The peak memory of a fresh process that loads a file and runs once, over its memory before."""

    def contender(self, name: str) -> Contender:
        """Return the contender of that name."""
        return next(contender for contender in self.contenders if contender.name == name)

    def document(self) -> dict[str, Any]:
        """Return the results as data for JSON."""
        options = self.options
        return {
            "model": self.title,
            "mode": options.mode,
            "weights": options.weights,
            **options.packing,
            "keep": options.keep or (),
            "input_shapes": self.shapes,
            "rounds": options.rounds,
            "binary_layers": self.binary_layers,
            "weight_layers": self.weight_layers,
            "machine": self.machine,
            "networks": [
                {
                    "name": one.name,
                    "version": one.version,
                    "latency": one.latency,
                    "speedup": one.speedup,
                    "throughput": {size: one.throughput(size) for size in one.seconds},
                    "largest_difference": one.difference,
                    "peak_memory": self.peaks.get(one.name),
                    "file": self.files.get(one.name),
                }
                for one in self.contenders
            ],
            "largest_answer": self.largest_answer,
            "binary_share_of_time": self.share,
            "profile": self.parts,
            "layers": self.layers,
            "generation": self.generation,
            "absent": self.absent,
        }
