"""A float network beside its packed form, and beside other engines that are installed."""

import copy
import warnings
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

import proxconnect
from proxconnect._support.example import tensors_in
from proxconnect.cli.bench import generation, layers
from proxconnect.cli.bench.answers import difference, require_runs, run
from proxconnect.cli.bench.contest import Contest, Networks
from proxconnect.cli.bench.examples import shapes_of
from proxconnect.cli.bench.pack_options import PackOptions
from proxconnect.cli.bench.profile import binary_share, profile
from proxconnect.cli.bench.results import FILES, FLOAT, PACKED, Bench, Options, Say
from proxconnect.cli.bench.timing import threads
from proxconnect.conversion import Plan, binarize
from proxconnect.inspection.machine import Machine
from proxconnect.layers import Accumulator

ACTIVATIONS = "poly"
"""The pair of the inputs; hard it is the sign, as every pair is."""

ACCUMULATOR = Accumulator(bits=8, overflow="wrap")


def measure(title: str, model: nn.Module, example: Any, options: Options, folder: Path, say: Say) -> Bench:
    """Binarize and pack a copy of the float `model`, time both, and write `FILES` into `folder`.

    `example` is what `pc.summary` takes; `say` is told what is going on. ValueError where the model does not take it
    and for what cannot be binarized or packed.
    """
    generation.require_room(title, model, options.prompt, options.tokens)
    say("binarizing and packing")
    model.eval().requires_grad_(False)
    with torch.no_grad():
        require_runs(title, model, example)
    binary = _binarized(model, example, options).eval()
    small = _packed(binary, options.packing)
    torch.save(model.state_dict(), folder / FILES[FLOAT])
    proxconnect.save(small, folder / FILES[PACKED])
    units, plan = layers.units(model, small), cast(Plan, binary.binarization)
    with threads(options.threads), torch.inference_mode():
        hard = tensors_in(run(binary, example))
        packed_difference = difference(hard, tensors_in(run(small, example)))
        say("timing layer by layer")
        by_layer = layers.measure(units, model, small, example, options.rounds)
        parts = profile(small, example, options.rounds)
        networks = Networks(title, model, binary, {PACKED: small}, {PACKED: packed_difference})
        contest = Contest(networks, options.threads, options.rounds, folder, say)
        contenders = contest.contenders(example, options.batches)
        writing = None
        if generation.can_write(model):
            say(f"writing {options.tokens} tokens, again and again")
            writers = {FLOAT: model, PACKED: small}
            writing = generation.measure(writers, options.prompt, options.tokens, options.rounds)
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
            layers=tuple(by_layer),
            share=binary_share(parts),
            files={name: (folder / file).stat().st_size for name, file in FILES.items()},
            generation=writing,
            absent=contest.absent,
        )


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
            if "\n" not in str(error):
                raise
            # It has a line for every layer, and advice for callers of `binarize`.
            raise ValueError("no layer would become binary: keep fewer, as --keep alone does") from error


def _packed(binary: nn.Module, packing: PackOptions) -> nn.Module:
    try:
        return packing.pack(binary)
    except TypeError as error:  # for a type of layer that has no packed form
        raise ValueError(str(error)) from error
