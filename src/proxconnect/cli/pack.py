"""`proxconnect pack`: from a training checkpoint to the packed file."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import proxconnect
from proxconnect import extras
from proxconnect.bench import Network
from proxconnect.bench.answers import require_runs
from proxconnect.bench.examples import of_shapes
from proxconnect.bench.profile import by_kind, profile
from proxconnect.checkpoints import Checkpoint, read
from proxconnect.cli import packing
from proxconnect.cli.network import network
from proxconnect.cli.parser import USAGE_ERROR, Parser, complain, positive
from proxconnect.cli.trained import Trained, choices, trained
from proxconnect.cli.trained import add_to as add_binarization
from proxconnect.loading import importable_folder

if TYPE_CHECKING:
    from proxconnect.inspection import Summary

UNEQUAL = 1
_ROUNDS = 5
_MOST_KINDS = 5


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command to those of the parser."""
    command = commands.add_parser(
        "pack",
        help="from a training checkpoint to the packed file",
        description="Pack the network of a checkpoint: 1 bit a weight, one file that is written whole\nor not at all.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""CHECKPOINT is what torch.save or safetensors wrote: a state dict, or a dict with
one in it, under whatever name or prefix, as Lightning's. No code in it runs.

MODEL is code, for a file never builds an architecture: a name as of
`proxconnect bench`, or MODULE:CALLABLE, which returns the float network, or the
binarized one. Which layers are binary the latents in the checkpoint say. It does
not say what shares a scale, accumulators or padding values: give the first two
as options, or all of them by a MODULE:CALLABLE that binarizes.

examples:
  proxconnect pack last.ckpt --model bireal_resnet18 -o r18.safetensors
  proxconnect pack run/model.pt --model my_module:net -o net.safetensors \\
      --accumulator 8:wrap --remainder int8 --vectors float16 --example
  proxconnect pack vit.safetensors --model my_module:binarized -o vit.safetensors

exit status:
  0  packed
  1  the packed network does not answer as the binary one (--example)
  2  bad input (one line on stderr)""",
    )
    add = command.add_argument
    add("checkpoint", type=Path, metavar="CHECKPOINT", help="what was trained")
    add("--model", required=True, metavar="MODEL", help="what builds its architecture")
    add("-o", "--out", type=Path, required=True, metavar="FILE", help="the file to write, as net.safetensors")
    add_binarization(command)
    packing.add_to(command)
    add("--example", nargs="*", type=positive, action="append", metavar="N", help="prove that the packed network\n"
        "answers as the binary one, on an input of this shape, again\n"
        "for a second one; alone: on the network's own")  # fmt: skip
    command.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> int:
    from rich.console import Console

    try:
        with importable_folder():
            lines = _pack(parsed)
    except (ValueError, TypeError, OSError, extras.MissingExtraError) as error:
        return complain(error, USAGE_ERROR)
    except RuntimeError as error:  # a proof that fails
        return complain(error, UNEQUAL)
    console = Console(highlight=False, soft_wrap=True)
    for line in lines:
        console.print(line, markup=False)
    return 0


def _pack(parsed: argparse.Namespace) -> list[str]:
    """Pack, save, and say what there is to say."""
    checkpoint = read(parsed.checkpoint)
    if parsed.out.exists() and parsed.out.samefile(parsed.checkpoint):
        raise ValueError(f"{parsed.out} is the checkpoint itself, which training needs: write to another file")
    subject = network(parsed.model)
    source = trained(subject, checkpoint, choices(parsed), parsed.prefix)
    example = None if parsed.example is None else _example(parsed, subject, source.model)
    packed = packing.of(parsed).pack(source.model, example)
    proxconnect.save(packed, parsed.out)
    own = None if subject.example is None else subject.example(source.model)
    return [
        *_found(subject, checkpoint, source),
        *_sizes(parsed.out, proxconnect.summary(packed)),
        *str(getattr(packed, "packing", "")).splitlines(),
        *_times(packed, own if example is None else example),
    ]


def _example(parsed: argparse.Namespace, subject: Network, model: nn.Module) -> Any:
    shapes = [shape for shape in parsed.example if shape]
    if not shapes and subject.example is None:
        raise ValueError(f"give the shape of what {parsed.model} takes, as --example 1 3 224 224")
    example = of_shapes(shapes) if shapes else subject.example(model)  # type: ignore[misc]  # it is there
    with torch.no_grad():
        require_runs(subject.title, model, example)
    return example


def _found(subject: Network, checkpoint: Checkpoint, source: Trained) -> Iterator[str]:
    under = f" under {source.matched.prefix!r}" if source.matched.prefix else ""
    yield f"{checkpoint.path}: {subject.title}, {len(source.matched.tensors)} tensors{under}; {source.how}"
    said = [
        f"{name} {checkpoint.values[name]}" for name in ("epoch", "global_step", "step") if name in checkpoint.values
    ]
    if said:
        yield f"of {', '.join(said)}"


def _sizes(file: Path, packed: "Summary") -> Iterator[str]:
    binary = [row for row in packed.rows if row.weight_bits == 1]
    inputs = sum(row.input_bits == 1 for row in binary)
    yield (
        f"{len(binary)} layers with {packed.binary_parameters:,} of {packed.parameters:,} parameters are binary, "
        f"{inputs} of them with binary inputs"
    )
    size, before = file.stat().st_size, packed.float_bytes
    yield f"{file}: {size:,} bytes, {before / size:.1f} times smaller than the {before:,} of float"


def _times(packed: nn.Module, example: Any) -> Iterator[str]:
    """Where the time goes, by classes of modules, if there is an input."""
    if example is None:
        return
    with torch.inference_mode():
        parts = profile(packed, example, _ROUNDS)
    seconds = by_kind(parts)
    whole = sum(seconds.values())
    most = list(seconds.items())[:_MOST_KINDS]
    yield f"a run takes {1e3 * whole:.3g} ms here: {', '.join(f'{k} {100 * s / whole:.0f} %' for k, s in most)}"
