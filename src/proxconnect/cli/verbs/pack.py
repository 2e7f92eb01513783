"""`proxconnect pack`: from a training checkpoint to the packed file."""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import proxconnect
from proxconnect._support import extras
from proxconnect._support.user_code import importable_folder
from proxconnect.cli import document, packing
from proxconnect.cli.bench import Network
from proxconnect.cli.bench.answers import require_runs
from proxconnect.cli.bench.examples import of_shapes
from proxconnect.cli.bench.profile import by_kind, profile
from proxconnect.cli.exits import Exit
from proxconnect.cli.manual import epilog
from proxconnect.cli.network import network
from proxconnect.cli.parser import Parser, complain, positive
from proxconnect.cli.trained import Trained, choices, trained
from proxconnect.cli.trained import add_to as add_binarization
from proxconnect.deploy.checkpoints import Checkpoint, read

if TYPE_CHECKING:
    from proxconnect.deploy.runtime import Packing
    from proxconnect.inspection import Summary

_ROUNDS = 5
_MOST_KINDS = 5

_ABOUT = """
CHECKPOINT is what torch.save or safetensors wrote: a state dict, or a dict with
one in it, under whatever name or prefix, as Lightning's. No code in it runs.

MODEL is code, for a file never builds an architecture: a name as of
`proxconnect bench`, or MODULE:CALLABLE, which returns the float network, or the
binarized one. Which layers are binary the latents in the checkpoint say. It
does not say what shares a scale, accumulators or padding values: give the first
two as options, or all of them by a MODULE:CALLABLE that binarizes.
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
    Exit.MISUSE: "wrong use (one line on stderr)",
}


@dataclass(frozen=True)
class Packed:
    """What `proxconnect pack` made, and of what."""

    checkpoint: Checkpoint
    source: Trained
    title: str
    out: Path
    summary: "Summary"
    packing: "Packing"
    seconds: Mapping[str, float]
    """Of a run on the network's own input, or the example, by classes of modules; empty without an input."""


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command to those of the parser."""
    command = commands.add_parser(
        "pack",
        help="from a training checkpoint to the packed file",
        description="Pack the network of a checkpoint: 1 bit a weight, one file that is written whole\nor not at all.",
        epilog=epilog(_EXAMPLES, _EXITS, _ABOUT),
    )
    add = command.add_argument
    add("checkpoint", type=Path, metavar="CHECKPOINT", help="what was trained")
    add("--model", required=True, metavar="MODEL", help="what builds its architecture")
    add("-o", "--out", type=Path, required=True, metavar="FILE", help="the file to write, as net.safetensors")
    add("--example", nargs="*", type=positive, action="append", metavar="N", help="prove that the packed network "
        "answers as the binary one, on an input of this shape, again for a second one; alone: its own")  # fmt: skip
    document.add_to(command)
    add_binarization(command)
    packing.add_to(command)
    command.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> int:
    from rich.console import Console

    try:
        with document.alone(parsed), importable_folder():
            made = _pack(parsed)
    except (ValueError, TypeError, OSError, extras.MissingExtraError) as error:
        return complain(error, Exit.MISUSE)
    except proxconnect.ProofError as error:
        return complain(error, Exit.NO)
    if parsed.json:
        document.write(_as_json(made))
        return Exit.DONE
    console = Console(highlight=False, soft_wrap=True)
    for line in [*_found(made), *_sizes(made), *str(made.packing).splitlines(), *_times(made)]:
        console.print(line, markup=False)
    return Exit.DONE


def _pack(parsed: argparse.Namespace) -> Packed:
    """Pack, save, and measure a run."""
    checkpoint = read(parsed.checkpoint)
    if parsed.out.exists() and parsed.out.samefile(parsed.checkpoint):
        raise ValueError(f"{parsed.out} is the checkpoint itself, which training needs: write to another file")
    subject = network(parsed.model)
    source = trained(subject, checkpoint, choices(parsed), parsed.prefix)
    example = None if parsed.example is None else _example(parsed, subject, source.model)
    packed = packing.of(parsed).pack(source.model, example)
    proxconnect.save(packed, parsed.out)
    own = None if subject.example is None else subject.example(source.model)
    seconds = _seconds(packed, own if example is None else example)
    return Packed(
        checkpoint, source, subject.title, parsed.out, proxconnect.summary(packed), vars(packed)["packing"], seconds
    )


def _example(parsed: argparse.Namespace, subject: Network, model: nn.Module) -> Any:
    shapes = [shape for shape in parsed.example if shape]
    if not shapes and subject.example is None:
        raise ValueError(f"give the shape of what {parsed.model} takes, as --example 1 3 224 224")
    example = of_shapes(shapes) if shapes else subject.example(model)  # type: ignore[misc]  # it is there
    with torch.no_grad():
        require_runs(subject.title, model, example)
    return example


def _seconds(packed: nn.Module, example: Any) -> dict[str, float]:
    """Where the time goes, by classes of modules, if there is an input."""
    if example is None:
        return {}
    with torch.inference_mode():
        return by_kind(profile(packed, example, _ROUNDS))


def _found(made: Packed) -> Iterator[str]:
    source = made.source
    under = f" under {source.matched.prefix!r}" if source.matched.prefix else ""
    yield f"{made.checkpoint.path}: {made.title}, {len(source.matched.tensors)} tensors{under}; {source.how}"
    progress = _progress(made)
    if progress:
        yield f"of {', '.join(f'{name} {value}' for name, value in progress.items())}"


def _progress(made: Packed) -> dict[str, object]:
    """How far training was."""
    values = made.checkpoint.values
    return {name: values[name] for name in ("epoch", "global_step", "step") if name in values}


def _sizes(made: Packed) -> Iterator[str]:
    layers, inputs = _binary(made.summary)
    yield (
        f"{layers} layers with {made.summary.binary_parameters:,} of {made.summary.parameters:,} parameters are "
        f"binary, {inputs} of them with binary inputs"
    )
    size, before = made.out.stat().st_size, made.summary.float_bytes
    yield f"{made.out}: {size:,} bytes, {before / size:.1f} times smaller than the {before:,} of float"


def _binary(summary: "Summary") -> tuple[int, int]:
    """How many layers are binary, and how many of these have binary inputs."""
    binary = [row for row in summary.rows if row.weight_bits == 1]
    return len(binary), sum(row.input_bits == 1 for row in binary)


def _times(made: Packed) -> Iterator[str]:
    whole = sum(made.seconds.values())
    most = list(made.seconds.items())[:_MOST_KINDS]
    if most:
        yield f"a run takes {1e3 * whole:.3g} ms here: {', '.join(f'{k} {100 * s / whole:.0f} %' for k, s in most)}"


def _as_json(made: Packed) -> dict[str, Any]:
    """What was made as plain data, in bytes and seconds."""
    layers, inputs = _binary(made.summary)
    return {
        "checkpoint": made.checkpoint.path,
        "prefix": made.source.matched.prefix,
        "progress": _progress(made),
        "network": made.title,
        "binarized": made.source.how,
        "file": made.out,
        "bytes": made.out.stat().st_size,
        "float_bytes": made.summary.float_bytes,
        "parameters": made.summary.parameters,
        "binary_parameters": made.summary.binary_parameters,
        "binary_layers": layers,
        "binary_inputs": inputs,
        "proof": made.packing.proof,
        "packing": str(made.packing).splitlines(),
        "seconds": sum(made.seconds.values()) if made.seconds else None,
        "seconds_by_kind": made.seconds,
    }
