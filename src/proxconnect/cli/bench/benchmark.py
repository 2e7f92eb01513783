"""A float network beside its packed form, and beside other engines that are installed."""

import copy
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

import proxconnect
from proxconnect._support.example import tensors_in
from proxconnect.cli.bench import generation
from proxconnect.cli.bench.contest import Contest
from proxconnect.cli.bench.layers import time_layers
from proxconnect.cli.bench.profile import binary_share, profile
from proxconnect.cli.bench.results import FILES, FLOAT, PACKED, Bench, Options, Say
from proxconnect.cli.bench.timing import threads
from proxconnect.cli.binarization import make_binary
from proxconnect.cli.examples import difference, require_runs, run, shapes_of
from proxconnect.conversion import Plan
from proxconnect.inspection.machine import Machine
from proxconnect.layers import Accumulator

ACTIVATIONS = "poly"
"""The pair of the inputs; hard it is the sign, as every pair."""

ACCUMULATOR = Accumulator(bits=8, overflow="wrap")


def measure(title: str, model: nn.Module, example: Any, options: Options, folder: Path, say: Say) -> Bench:
    """Binarize and pack a copy of the float `model`, time both, and write `FILES` into `folder`.

    `example` is an input as `pc.summary` takes it, and `say` is called with lines on what is going on.

    Raises:
        ValueError: if the model does not take the example, or cannot be binarized.
        TypeError: if it has a layer that cannot be packed.
    """
    generation.require_room(title, model, options.prompt, options.tokens)
    say("binarizing and packing")
    binary, small = _binary_and_packed(title, model, example, options)
    torch.save(model.state_dict(), folder / FILES[FLOAT])
    proxconnect.save(small, folder / FILES[PACKED])
    plan = cast(Plan, binary.binarization)
    with threads(options.threads), torch.inference_mode():
        hard = tensors_in(run(binary, example))
        packed_difference = difference(hard, tensors_in(run(small, example)))
        say("timing layer by layer")
        by_layer = time_layers(model, small, example, options.rounds)
        parts = profile(small, example, options.rounds)
        contest = Contest(title, model, binary, {PACKED: small}, {PACKED: packed_difference}, options.threads,
                          options.rounds, folder, say)  # fmt: skip
        contenders = contest.contenders(example, options.batches)
        writing = None
        if generation.can_write(model):
            say(f"writing {options.tokens} tokens, again and again")
            writers = {FLOAT: model, PACKED: small}
            writing = generation.time_writing(writers, options.prompt, options.tokens, options.rounds)
        return Bench(
            title=title,
            options=options,
            shapes=shapes_of(example),
            machine=Machine.here(),
            binary_layers=len(plan.binary),
            weight_layers=len(plan.rows),
            contenders=contenders,
            largest_answer=max((float(t.abs().max()) for t in hard if t.numel()), default=0.0),
            parts=parts,
            layers=by_layer,
            share=binary_share(parts),
            files={name: (folder / file).stat().st_size for name, file in FILES.items()},
            generation=writing,
            absent=contest.absent,
        )


def _binary_and_packed(title: str, model: nn.Module, example: Any, options: Options) -> tuple[nn.Module, nn.Module]:
    model.eval().requires_grad_(False)
    with torch.no_grad():
        require_runs(title, model, example)
    binary = make_binary(
        copy.deepcopy(model), options.weights, None if options.mode == "BW" else ACTIVATIONS, keep=options.keep,
        accumulator=ACCUMULATOR if options.mode == "BWAA" else None, example=example,
    ).eval()  # fmt: skip
    return binary, proxconnect.pack(binary, **options.packing)
