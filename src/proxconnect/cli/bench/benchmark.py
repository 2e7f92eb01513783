"""A float network beside its packed form, and beside other engines that are installed."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from torch import nn

import proxconnect
from proxconnect._support.example import tensors_in
from proxconnect.cli.bench import generation
from proxconnect.cli.bench.contest import FILES, FLOAT, PACKED, Contest, Say
from proxconnect.cli.bench.layers import time_layers
from proxconnect.cli.bench.profile import binary_share, profile
from proxconnect.cli.bench.timing import threads
from proxconnect.cli.binarization import make_binary
from proxconnect.cli.examples import difference, require_runs, run, shapes_of
from proxconnect.conversion import Plan
from proxconnect.inspection.machine import Machine
from proxconnect.layers import Accumulator

Mode = Literal["BW", "BWA", "BWAA"]
MODES: tuple[Mode, ...] = get_args(Mode)
"""Binary weights; binary activations too; and a narrow accumulator for the sums of their products."""

ACTIVATIONS = "poly"
"""The pair of the inputs; hard it is the sign, as every pair."""

ACCUMULATOR = Accumulator(bits=8, overflow="wrap")


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


def measure(title: str, model: nn.Module, example: Any, options: Options, folder: Path, say: Say) -> dict[str, Any]:
    """Binarize and pack a copy of the float `model`, time both, and write `FILES` into `folder`.

    `example` is an input as `pc.summary` takes it, and `say` is called with lines on what is going on.

    Returns:
        The keys of `proxconnect bench --json` (docs/command-line.md), all values of `peak_memory` None.

    Raises:
        ValueError: if the model does not take the example, or cannot be binarized.
        TypeError: if it has a layer that cannot be packed.
    """
    generation.require_room(title, model, options.prompt, options.tokens)
    say("binarizing and packing")
    model.eval().requires_grad_(False)
    with torch.no_grad():
        require_runs(title, model, example)
    binary = make_binary(
        copy.deepcopy(model), options.weights, None if options.mode == "BW" else ACTIVATIONS, keep=options.keep,
        accumulator=ACCUMULATOR if options.mode == "BWAA" else None, example=example,
    ).eval()  # fmt: skip
    small = proxconnect.pack(binary, **options.packing)
    torch.save(model.state_dict(), folder / FILES[FLOAT])
    proxconnect.save(small, folder / FILES[PACKED])
    plan = cast(Plan, binary.binarization)
    described = {
        "model": title, "mode": options.mode, "weights": options.weights, **options.packing,
        "keep": options.keep or (), "input_shapes": shapes_of(example), "rounds": options.rounds,
        "binary_layers": len(plan.binary), "weight_layers": len(plan.rows),
    }  # fmt: skip
    with threads(options.threads), torch.inference_mode():
        return described | _measured(title, model, binary, small, example, options, folder, say)


def _measured(
    title: str, model: nn.Module, binary: nn.Module, small: nn.Module, example: Any, options: Options, folder: Path,
    say: Say,
) -> dict[str, Any]:  # fmt: skip
    hard = tensors_in(run(binary, example))
    differences = {PACKED: difference(hard, tensors_in(run(small, example)))}
    say("timing layer by layer")
    layers = time_layers(model, small, example, options.rounds)
    parts = profile(small, example, options.rounds)
    contest = Contest(title, model, binary, {PACKED: small}, differences, options.threads, options.rounds, folder, say)
    contenders = contest.contenders(example, options.batches)
    writing = None
    if generation.can_write(model):
        say(f"writing {options.tokens} tokens, again and again")
        writers = {FLOAT: model, PACKED: small}
        writing = generation.time_writing(writers, options.prompt, options.tokens, options.rounds)
    files = {name: (folder / file).stat().st_size for name, file in FILES.items()}
    return {
        "machine": Machine.here(),
        "networks": [{**one, "peak_memory": None, "file": files.get(one["name"])} for one in contenders],
        "largest_answer": max((float(t.abs().max()) for t in hard if t.numel()), default=0.0),
        "binary_share_of_time": binary_share(parts),
        "profile": parts,
        "layers": layers,
        "generation": writing,
        "absent": contest.absent,
    }
