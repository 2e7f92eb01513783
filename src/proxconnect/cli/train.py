"""`proxconnect fit | validate | test`: their options are parsed by Lightning's command line."""

import argparse
from collections.abc import Sequence
from typing import Any

from proxconnect.cli.parser import USAGE_ERROR, Parser, complain
from proxconnect.extras import MissingExtraError, require
from proxconnect.termination import TerminatedError

VERBS = {
    "fit": "train a network as a recipe says",
    "validate": "the accuracies of a trained network on its validation data",
    "test": "the same on its test data",
}


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the commands to the help of the parser; `run` takes their arguments as they are."""
    for verb, meaning in VERBS.items():
        commands.add_parser(verb, help=meaning, add_help=False)


def run(verb: Any, arguments: Sequence[str]) -> int:
    """Run `proxconnect VERB` with `arguments`; its exit code."""
    try:
        require("lightning.pytorch", "train")
        require("jsonargparse", "train")
        require("torchmetrics", "train")
    except MissingExtraError as error:
        return complain(error, USAGE_ERROR)
    from rich.console import Console

    from proxconnect.checkpoints import CheckpointError
    from proxconnect.training import commands
    from proxconnect.training.complaints import UsageError

    try:
        commands.run(verb, arguments, Console())
    except (UsageError, CheckpointError, MissingExtraError) as error:
        return complain(error, USAGE_ERROR)
    except (ValueError, OSError) as error:
        return complain(error, 1)
    except TerminatedError as stop:
        return complain(stop, stop.code) if str(stop) else stop.code
    return 0
