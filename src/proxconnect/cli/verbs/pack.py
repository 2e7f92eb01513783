"""`proxconnect pack`: from a training checkpoint to the packed file."""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

import proxconnect
from proxconnect._support.text import file_size
from proxconnect._support.user_code import importable_folder
from proxconnect.cli import binarization
from proxconnect.cli.answer import JSON_HELP, Answer, print_answer
from proxconnect.cli.bench.profile import by_kind, profile
from proxconnect.cli.networks import network, require_runs
from proxconnect.cli.parser import Exit, Parser, epilog, output_file, positive
from proxconnect.deploy.checkpoints import read

_ABOUT = """
CHECKPOINT is a file of torch.save or safetensors: a state dict, or a dict with
one in it, under any name or prefix, as Lightning's. No code in it runs.

MODEL is code, since a file never builds an architecture: a name as for
`proxconnect bench`, or MODULE:CALLABLE, which returns the float network or the
binarized one. The latents in the checkpoint say which layers are binary. It
does not say what shares a scale, accumulators or padding values: give the first
two as options, or all of them with a MODULE:CALLABLE that binarizes.
"""
_EXAMPLES = """
proxconnect pack last.ckpt --model my_module:net -o net.safetensors
proxconnect pack float.pt --model my_module:net -o net.safetensors \\
    --activations bnn --accumulator 8:wrap --vectors float16 --example
proxconnect pack last.ckpt --model my_module:net -o net.safetensors --json
proxconnect pack r18.ckpt --model bireal_resnet18 -o r18.safetensors \\
    --remainder int8
"""
_EXITS = {
    Exit.DONE: "packed",
    Exit.NO: "the packed network does not answer as the binary one (--example)",
}


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add `pack` to the subcommands of the parser."""
    command = commands.add_parser(
        "pack",
        help="from a training checkpoint to the packed file",
        description="Pack the network of a checkpoint: 1 bit a weight, one file that is written whole\nor not at all.",
        epilog=epilog(_EXAMPLES, _EXITS, _ABOUT),
    )
    add = command.add_argument
    add("checkpoint", type=Path, metavar="CHECKPOINT", help="the training checkpoint")
    add("--model", required=True, metavar="MODEL", help="the code that builds its architecture")
    add("-o", "--out", type=output_file, required=True, metavar="FILE", help="the file to write, as net.safetensors")
    add("--example", nargs="*", type=positive, action="append", metavar="N", help="prove that the packed network "
        "answers as the binary one, on an input of this shape, again for a second one; alone: its own")  # fmt: skip
    add("--json", action="store_true", help=JSON_HELP)
    binarization.add_to(command)
    binarization.add_packing(command)
    command.set_defaults(run=lambda parsed: print_answer(parsed, _pack))


@importable_folder()
def _pack(parsed: argparse.Namespace) -> Answer:
    checkpoint = read(parsed.checkpoint)
    if parsed.out.exists() and parsed.out.samefile(parsed.checkpoint):
        raise ValueError(f"{parsed.out} is the checkpoint itself, which training needs: write to another file")
    subject = network(parsed.model)
    binary, matched, how = binarization.trained(subject, checkpoint, parsed)
    example = subject.input_of([shape for shape in parsed.example or () if shape], binary)
    if example is not None:
        require_runs(subject.title, binary, example)
    elif parsed.example is not None:
        raise ValueError(f"give the shape of what {parsed.model} takes, as --example 1 3 224 224")
    options = binarization.packing_options(parsed)
    packed = proxconnect.pack(binary, **options, example=None if parsed.example is None else example)
    proxconnect.save(packed, parsed.out)
    with torch.inference_mode():
        seconds = {} if example is None else by_kind(profile(packed, example, rounds=5))
    found = proxconnect.summary(packed)
    layers = [row for row in found.rows if row.weight_bits == 1]
    made = {
        "checkpoint": checkpoint.path,
        "prefix": matched.prefix,
        "progress": {
            name: checkpoint.values[name] for name in ("epoch", "global_step", "step") if name in checkpoint.values
        },
        "network": subject.title,
        "binarized": how,
        "file": parsed.out,
        "bytes": parsed.out.stat().st_size,
        "float_bytes": found.float_bytes,
        "parameters": found.parameters,
        "binary_parameters": found.binary_parameters,
        "binary_layers": len(layers),
        "binary_inputs": sum(row.input_bits == 1 for row in layers),
        "proof": vars(packed)["packing"].proof,
        "packing": str(vars(packed)["packing"]).splitlines(),
        "seconds": sum(seconds.values()) if seconds else None,
        "seconds_by_kind": seconds,
    }
    return Answer(made, _lines(made, len(matched.tensors)))


def _lines(made: Mapping[str, Any], tensors: int) -> Iterator[str]:
    under = f" under {made['prefix']!r}" if made["prefix"] else ""
    yield f"{made['checkpoint']}: {made['network']}, {tensors} tensors{under}"
    yield made["binarized"]
    if made["progress"]:
        yield f"saved at {', '.join(f'{name} {value}' for name, value in made['progress'].items())}"
    layers, inputs = made["binary_layers"], made["binary_inputs"]
    yield (
        f"{layers} binary layer{'s' * (layers != 1)} with {made['binary_parameters']:,} of {made['parameters']:,} "
        f"parameters, {inputs if 0 < inputs < layers else 'all' if inputs else 'none'} with binary inputs"
    )
    yield f"{made['file']}: {file_size(made['bytes'], made['float_bytes'])}"
    yield from made["packing"]
    if made["seconds"]:
        most = list(made["seconds_by_kind"].items())[:5]
        shares = ", ".join(f"{100 * seconds / made['seconds']:.0f} % in {kind}" for kind, seconds in most)
        yield f"a run takes {1e3 * made['seconds']:.3g} ms on this machine: {shares}"
