"""`proxconnect summary`: what is in a packed file or in a checkpoint, in bits and bytes."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import proxconnect
from proxconnect._support import extras
from proxconnect._support.user_code import importable_folder
from proxconnect.cli import document
from proxconnect.cli.bench.answers import require_runs
from proxconnect.cli.bench.examples import of_shapes
from proxconnect.cli.contents import latents_in, packed_in
from proxconnect.cli.exits import Exit
from proxconnect.cli.manual import epilog
from proxconnect.cli.network import network
from proxconnect.cli.parser import Parser, complain, positive
from proxconnect.cli.shown_contents import (
    latents_as_json,
    packed_as_json,
    show_latents,
    show_packed,
    summary_as_json,
)
from proxconnect.cli.trained import add_to as add_binarization
from proxconnect.cli.trained import choices, trained
from proxconnect.deploy.checkpoints import is_packed, read

if TYPE_CHECKING:
    from rich.console import RenderableType

_ABOUT = """
Without --model it is told from the file alone. With it, a name as of
`proxconnect bench` or MODULE:CALLABLE, the network runs once on its usual
input, or on one of the shape of --input, and shapes and multiply-adds are shown
too. How it was binarized is asked of checkpoints, as by `proxconnect pack`.
"""
_EXAMPLES = """
proxconnect summary net.safetensors
proxconnect summary net.safetensors --model my_module:net --json
proxconnect summary last.ckpt
proxconnect summary last.ckpt --model my_module:net --input 1 3 64 64
"""
_EXITS = {Exit.DONE: "shown", Exit.MISUSE: "wrong use (one line on stderr)"}


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
    document.add_to(command)
    add = command.add_argument_group("the network").add_argument
    add("--model", metavar="MODEL", help="what builds its architecture")
    add("--input", nargs="+", type=positive, action="append", metavar="N", help="shape of an input, the batch first; "
        "again for a second one; default: the network's own")  # fmt: skip
    add_binarization(command)
    command.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> int:
    from rich.console import Console

    console = Console(highlight=False)
    console.width = max(console.width, 80)
    try:
        with document.alone(parsed):
            shown, data = _of_file(parsed) if parsed.model is None else _of_model(parsed)
    except (ValueError, TypeError, OSError, extras.MissingExtraError) as error:
        return complain(error, Exit.MISUSE)
    if parsed.json:
        document.write(data)
    else:
        for part in shown:
            console.print(part, markup=False)
    return Exit.DONE


def _of_file(parsed: argparse.Namespace) -> "tuple[list[RenderableType], dict[str, Any]]":
    if is_packed(parsed.file):
        packed = packed_in(parsed.file)
        return show_packed(packed), packed_as_json(packed)
    latents = latents_in(read(parsed.file))
    return show_latents(latents), latents_as_json(latents)


def _of_model(parsed: argparse.Namespace) -> "tuple[list[RenderableType], dict[str, Any]]":
    """The summary of the network itself, which runs once if its input is known."""
    with importable_folder():
        subject = network(parsed.model)
        if is_packed(parsed.file):
            model = proxconnect.load(parsed.file, subject.build())
        else:
            model = trained(subject, read(parsed.file), choices(parsed), parsed.prefix).model
        example: Any = None
        if parsed.input or subject.example is not None:
            example = of_shapes(parsed.input) if parsed.input else subject.example(model)  # type: ignore[misc]  # there
        with torch.no_grad():
            if example is not None:
                require_runs(subject.title, model, example)
            found = proxconnect.summary(model, example)
    lines = [str(found), *str(getattr(model, "packing", "")).splitlines()]
    return list(lines), {"file": parsed.file, **summary_as_json(found)}
