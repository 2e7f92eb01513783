"""`proxconnect summary`: what is in a packed file or in a checkpoint, in bits and bytes."""

import argparse
from pathlib import Path

import torch
from rich.text import Text

import proxconnect
from proxconnect._support.user_code import importable_folder
from proxconnect.cli import binarization, document
from proxconnect.cli.answer import Answer, print_answer
from proxconnect.cli.contents import checkpoint_contents, packed_contents
from proxconnect.cli.examples import add_input, require_runs
from proxconnect.cli.exits import Exit
from proxconnect.cli.networks import network
from proxconnect.cli.parser import Parser, epilog
from proxconnect.deploy.checkpoints import is_packed, read

_ABOUT = """
Without --model the file alone is read. With --model, a name as for
`proxconnect bench` or MODULE:CALLABLE, the network runs once on its usual
input, or on one with the shape of --input. Output shapes and multiply-adds are
then shown too. For checkpoints, say how the network was binarized, as for
`proxconnect pack`.
"""
_EXAMPLES = """
proxconnect summary net.safetensors
proxconnect summary net.safetensors --model my_module:net --json
proxconnect summary last.ckpt
proxconnect summary last.ckpt --model my_module:net --input 1 3 64 64
"""
_EXITS = {Exit.DONE: "shown", Exit.MISUSE: "wrong use (one line on stderr)"}
_TOTALS = ("parameters", "binary_parameters", "float_bytes", "packed_bytes", "binary_macs", "float_macs", "uncalled",
           "one_signed", "kernels")  # fmt: skip


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command to those of the parser."""
    command = commands.add_parser(
        "summary",
        help="what is in a packed file or in a checkpoint?",
        description="Show the layers of a packed file or of a checkpoint, with their bits and bytes.",
        epilog=epilog(_EXAMPLES, _EXITS, _ABOUT),
    )
    add = command.add_argument
    add("file", type=Path, metavar="CHECKPOINT-or-FILE", help="what `pack` or training wrote")
    add("--json", action="store_true", help=document.HELP)
    add = command.add_argument_group("the network").add_argument
    add("--model", metavar="MODEL", help="what builds its architecture")
    add_input(add)
    binarization.add_to(command)
    command.set_defaults(run=lambda parsed: print_answer(parsed, _of_model if parsed.model else _of_file))


def _of_file(parsed: argparse.Namespace) -> Answer:
    return packed_contents(parsed.file) if is_packed(parsed.file) else checkpoint_contents(read(parsed.file))


@importable_folder()
def _of_model(parsed: argparse.Namespace) -> Answer:
    """Summarize the network itself, which runs once if its input is known."""
    subject = network(parsed.model)
    if is_packed(parsed.file):
        model = proxconnect.load(parsed.file, subject.build())
    else:
        model, _, _ = binarization.trained(subject, read(parsed.file), parsed)
    example = subject.input_of(parsed.input, model)
    with torch.no_grad():
        if example is not None:
            require_runs(subject.title, model, example)
        found = proxconnect.summary(model, example)
    totals = {name: getattr(found, name) for name in _TOTALS}
    packing = [Text(str(model.packing))] if hasattr(model, "packing") else []
    return Answer({"kind": "network", "file": parsed.file, **totals, "layers": found.rows}, [str(found), *packing])
