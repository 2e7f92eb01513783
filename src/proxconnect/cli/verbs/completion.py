"""`proxconnect completion`: a script that completes the command in a shell."""

import argparse
import re
from typing import Any

from proxconnect._support import extras
from proxconnect.cli import streams
from proxconnect.cli.networks import LANGUAGE_MODELS
from proxconnect.cli.parser import Exit, Parser, complain, epilog
from proxconnect.cli.verbs.train import VERBS
from proxconnect.pairs import PAIRS, SURROGATES
from proxconnect.training.models import names

SHELLS = ("bash", "zsh", "fish")
_ABOUT = """
The script completes commands, options, pairs, networks, files and folders. It
runs no Python: make it again after an update.
"""
_EXAMPLES = """
proxconnect completion bash > ~/.proxconnect-completion  # to be sourced
proxconnect completion zsh > ~/.zfunc/_proxconnect  # a folder of $fpath
proxconnect completion fish > ~/.config/fish/completions/proxconnect.fish
"""
_EXITS = {Exit.DONE: "printed", Exit.MISUSE: "wrong use, or shtab is not installed (one line on stderr)"}


def add_to(commands: "argparse._SubParsersAction[Parser]", whole: Parser) -> None:
    """Add `completion` to the subcommands of `whole`, the parser that its scripts complete."""
    command = commands.add_parser(
        "completion",
        help="a script that completes the command in bash, zsh or fish",
        description="Print a script that completes the command in a shell.",
        epilog=epilog(_EXAMPLES, _EXITS, _ABOUT),
    )
    command.add_argument("shell", choices=SHELLS, help="which")
    command.set_defaults(run=lambda parsed: _run(parsed, whole, commands))


def _run(parsed: argparse.Namespace, whole: Parser, commands: "argparse._SubParsersAction[Parser]") -> int:
    try:
        shtab = extras.require("shtab", "completion")
    except extras.MissingExtraError as error:
        return complain(error, Exit.MISUSE)
    for verb in VERBS:
        _add_options_of_training(commands.choices[verb])
    networks = [*names.OURS, *names.of_libraries()]
    listed = {"PAIR": [*PAIRS], "NETWORK": networks, "MODEL": [*LANGUAGE_MODELS, *networks]}
    paths = dict.fromkeys(("FILE", "GRID.yaml", "CHECKPOINT", "CHECKPOINT-or-FILE", "CONFIG"), shtab.FILE)
    paths["DIR"] = shtab.DIRECTORY
    actions: list[Any] = [action for command in commands.choices.values() for action in command._actions]
    for action in actions:
        if action.metavar in listed:
            action.choices = [*listed[action.metavar], *(SURROGATES if action.dest == "pair" else ())]
        elif action.metavar in paths:
            action.complete = paths[action.metavar]
    with streams.writing():
        print(shtab.complete(whole, shell=parsed.shell))
    return Exit.DONE


def _add_options_of_training(command: Parser) -> None:
    """Add the options of a verb that Lightning parses, if Lightning is installed."""
    add = command.add_argument
    add("-h", "--help", action="store_true")
    add("--json", action="store_true")
    try:
        extras.require("lightning", "train")
        extras.require("jsonargparse", "train")
    except extras.MissingExtraError:
        return
    from proxconnect.training.configuration import DATA, nested_names, parser

    metavars = {"--config": "CONFIG", "--ckpt_path": "FILE", "--model.network.name": "NETWORK",
                "--data": f"{{{','.join(cls.__name__ for cls in DATA)}}}"}  # fmt: skip
    seen = {"--help"}
    for action in parser()._actions:
        options = [option for option in action.option_strings if option not in seen]
        seen.update(options)
        if options and "--help" not in action.option_strings:
            metavar = metavars.get(options[-1], str(action.metavar or ""))
            choices = re.fullmatch(r"\{(.*)\}", metavar)
            add(*options, metavar=metavar, choices=choices[1].split(",") if choices else None)
    for name in dict.fromkeys(nested_names()):
        if f"--{name}" not in seen:
            is_pair = name.endswith((".weights", ".activations")) and "binary" in name
            add(f"--{name}", metavar="PAIR" if is_pair else "")
