"""`proxconnect fit | validate | test`: their options are parsed by Lightning's command line."""

import argparse
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from proxconnect._support.extras import MissingExtraError, require
from proxconnect._support.termination import TerminatedError
from proxconnect.cli.answer import keeping_stdout, print_document
from proxconnect.cli.parser import Exit, Parser, complain, epilog

VERBS = {
    "fit": "train a network from a recipe",
    "validate": "the accuracies of a trained network on its validation data",
    "test": "the same on its test data",
}
_DESCRIPTIONS = {
    "fit": "Train a network from a recipe, or resume a run that was stopped from its folder,\n"
    "and pack the trained network into network.safetensors.",
    "validate": "Measure a trained network on its validation data.",
    "test": "Measure a trained network on its test data.",
}
_OPTIONS = """
Recipes are YAML files of the options below. A later --config, or an option
after it, overrides an earlier one. --print_config shows the result. --json
prints one JSON document, and everything else goes to stderr.
"""
_FIT_EXAMPLES = """
proxconnect fit --config recipes/small_cnn_digits.yaml
proxconnect fit --config recipes/small_cnn_digits.yaml \\
    --config recipes/overlays/bwa.yaml --trainer.default_root_dir runs/bwa
proxconnect fit --config recipes/small_cnn_digits.yaml \\
    --model.binary.weights poly --trainer.max_epochs 5 --seed_everything 1
proxconnect fit --config recipes/small_cnn_digits.yaml --ckpt_path last
"""
_MEASURING_EXAMPLES = """
proxconnect {verb} --config recipes/small_cnn_digits.yaml --ckpt_path last
proxconnect {verb} --config recipes/small_cnn_digits.yaml \\
    --ckpt_path runs/bwa/last.ckpt --json
"""
_EXITS = {
    Exit.DONE: "trained or measured",
    Exit.NO: "what ran failed (one line on stderr)",
    Exit.INTERRUPTED: "Ctrl-C",
    Exit.TERMINATED: "SIGTERM: last.ckpt holds what is done, and --ckpt_path last goes on",
}


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """List `fit`, `validate` and `test` in the help of the parser; their arguments are parsed by `run`."""
    for verb, meaning in VERBS.items():
        commands.add_parser(verb, help=meaning, add_help=False)


def run(verb: Any, arguments: Sequence[str]) -> int:
    """Run `proxconnect` with `verb`, a key of `VERBS`, and `arguments`; print the results, and return the exit code."""
    try:
        for package in ("lightning.pytorch", "jsonargparse", "torchmetrics"):
            require(package, "train")
    except MissingExtraError as error:
        return complain(error, Exit.MISUSE)
    from proxconnect.deploy.checkpoints import CheckpointError
    from proxconnect.training import commands
    from proxconnect.training.configuration import UsageError

    examples = _FIT_EXAMPLES if verb == "fit" else _MEASURING_EXAMPLES.format(verb=verb)
    manual = {
        "prog": f"proxconnect {verb}",
        "description": f"{_DESCRIPTIONS[verb]}\n{_OPTIONS}",
        "epilog": epilog(examples, _EXITS, "docs/training.md explains the options."),
    }
    parsed = argparse.Namespace(json="--json" in arguments)
    others = [word for word in arguments if word != "--json"]
    try:
        with keeping_stdout(parsed):
            outcome = commands.run(verb, others, Console(stderr=parsed.json), manual)
    except (UsageError, CheckpointError, MissingExtraError) as error:
        return complain(error, Exit.MISUSE)
    except (ValueError, OSError) as error:
        return complain(error, Exit.NO)
    except TerminatedError as stop:
        return complain(stop, stop.code) if str(stop) else stop.code
    if parsed.json and outcome is not None:
        print_document(outcome)
    return Exit.DONE
