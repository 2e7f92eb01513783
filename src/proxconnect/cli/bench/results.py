"""What is measured, and what was."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch

from proxconnect.cli.bench.generation import Generation
from proxconnect.cli.bench.layers import LayerTimes
from proxconnect.cli.bench.pack_options import PackOptions
from proxconnect.cli.bench.profile import Part
from proxconnect.cli.bench.timing import Spread
from proxconnect.inspection.machine import Machine

Mode = Literal["BW", "BWA", "BWAA"]
MODES: tuple[Mode, ...] = get_args(Mode)
"""Binary weights; activations too; and the sums of their products in a narrow accumulator."""

FLOAT, PACKED = "float", "packed"
FILES = {FLOAT: "float.pt", PACKED: "packed.safetensors"}
"""What `measure` writes: the float state dict, and the packed file."""

Say = Callable[[str], None]
"""Takes what is going on."""


@dataclass(frozen=True)
class Options:
    """What to measure."""

    weights: str = "bnn++"
    mode: Mode = "BW"
    keep: tuple[str, ...] | None = ("edges",)
    packing: PackOptions = field(default_factory=PackOptions)
    """How it is packed."""
    threads: int = field(default_factory=torch.get_num_threads)
    rounds: int = 11
    batches: tuple[int, ...] = (1, 8)
    """The batches whose throughput is measured."""
    prompt: int = 128
    """The tokens that a language model is given to go on from."""
    tokens: int = 32
    """Those that it then writes, 2 or more."""


@dataclass(frozen=True)
class Contender:
    """One way to run the whole network."""

    name: str
    """"float" and "packed", by torch, or the name of an engine."""
    version: str
    """That of torch or of the engine."""
    latency: Spread
    """Seconds of a run on the example."""
    speedup: Spread
    """Float by this, round by round."""
    seconds: Mapping[int, tuple[float, ...]]
    """Those that a run takes, round by round, by size of batch."""
    difference: float
    """The largest |Δ| of its answers from those of the network it runs, of the packed network from the binary one's."""

    def throughput(self, batch: int) -> float:
        """Inputs a second, in batches of that size."""
        return batch / Spread.of(self.seconds[batch]).median


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
    parts: tuple[Part, ...]
    """What takes the packed network's time, in the order in which it is called."""
    layers: tuple[LayerTimes, ...]
    """In order of registration."""
    share: float
    """The part of a run of the packed network that its binary layers take, with what is fused into them."""
    files: Mapping[str, int]
    """Bytes on disk of the float state dict and of the packed file."""
    generation: Generation | None
    """How fast it writes; None where it is no causal language model of transformers."""
    absent: Mapping[str, str]
    """Why an engine has no row: how to install it, or how it failed."""
    peaks: Mapping[str, int] = field(default_factory=dict)
    """The most bytes of memory that a fresh process took to load a file and run once, over one that did neither."""

    def contender(self, name: str) -> Contender:
        """The one of that name."""
        return next(contender for contender in self.contenders if contender.name == name)
