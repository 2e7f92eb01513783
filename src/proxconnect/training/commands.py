"""`proxconnect fit | validate | test`, from the arguments of the command line to the printed results."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from yaml import YAMLError

from proxconnect._support.paths import require_writable
from proxconnect._support.text import file_size, some
from proxconnect._support.user_code import importable_folder
from proxconnect.training.checkpoints import LAST
from proxconnect.training.configuration import Configured, UsageError
from proxconnect.training.lost_ranks import noticing_lost_ranks
from proxconnect.training.runs import CONFIGURATION, PACKED, Shipped, fit, has_begun, last_checkpoint, ship
from proxconnect.training.study.yaml_files import holds_itself

Verb = Literal["fit", "validate", "test"]

_TITLES = {
    "accuracy": "Accuracy of the shipped network",
    "accuracy_hard": "before batch norm was re-estimated",
    "accuracy_soft": "with soft weights, as it trains",
}


def run(
    verb: Verb, arguments: Sequence[str], console: Console, manual: Mapping[str, str] | None = None
) -> dict[str, Any] | None:
    """Run `proxconnect VERB` with `arguments`, and print the outcome; UsageError for wrong arguments.

    `manual` replaces "prog", "description" or "epilog" of the help. Return None on all processes but the first. Else
    return the accuracies by their names in `Accuracies`, None if not measured, and "packed", the fields of `Shipped` as
    a dict, or None.
    """
    _require_recipes(arguments)
    with importable_folder():
        configured = Configured(arguments, manual)
        measured, shipped = _fit(configured) if verb == "fit" else (_evaluate(verb, configured), None)
    if not configured.trainer.is_global_zero:
        return None
    table = Table(box=None, show_header=False)
    if "accuracy" not in measured:
        table.add_row(_TITLES["accuracy"], "not measured after the last epoch: proxconnect validate does it")
    for name, title in _TITLES.items():
        if name in measured:
            table.add_row(title, f"{100 * measured[name]:.2f} %")
    if shipped is not None:
        table.add_row("Packed file", str(shipped.path))
        table.add_row("", file_size(shipped.packed_bytes, shipped.float_bytes))
        table.add_row("Layers that stay float", some(list(shipped.stays_float)))
    console.print(table)
    return {name: measured.get(name) for name in _TITLES} | {"packed": None if shipped is None else asdict(shipped)}


def _fit(configured: Configured) -> tuple[Mapping[str, float], Shipped | None]:
    """Train a new run or go on with one; UsageError if a new one would be written into the folder of another."""
    try:
        require_writable(configured.folder, "--trainer.default_root_dir", (LAST, CONFIGURATION, PACKED))
    except OSError as error:
        raise UsageError(str(error)) from error
    if configured.config_init["ckpt_path"] is None and has_begun(configured):
        raise UsageError(
            f"{configured.folder} holds a run already: go on with it by --ckpt_path last, or give another folder by "
            "--trainer.default_root_dir"
        )
    fit(configured, checkpoint=_checkpoint(configured, "fit"))
    measured = configured.model.curve[-1] if configured.model.curve else {}
    return measured, ship(configured.model, configured.folder)


def _evaluate(verb: Verb, configured: Configured) -> Mapping[str, float]:
    checkpoint = _checkpoint(configured, verb)
    if checkpoint is None:
        raise UsageError(f"{verb} needs a trained network: give --ckpt_path runs/NAME/last.ckpt")
    evaluate = configured.trainer.validate if verb == "validate" else configured.trainer.test
    with noticing_lost_ranks(configured.trainer):
        measured = evaluate(
            configured.model, datamodule=configured.datamodule, ckpt_path=checkpoint, verbose=False, weights_only=True
        )
    return {name.partition("/")[2]: value for name, value in measured[0].items()}


def _require_recipes(arguments: Sequence[str]) -> None:
    """Raise UsageError for a --config that names no file, with close matches, or that the parser could not read."""
    recipes = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    recipes.add_argument("--config", "-c", action="append", default=[], nargs="?")
    for given in filter(None, recipes.parse_known_args(arguments)[0].config):
        if not Path(given).is_file():
            folder = Path(given).parent
            there = sorted(str(path) for path in folder.rglob("*.yaml")) if folder.is_dir() else []
            near = get_close_matches(given, there, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"{folder}/ has {some(there) or 'no *.yaml'}"
            raise UsageError(f"there is no recipe {given}: {hint}")
        try:
            if holds_itself(Path(given).read_text(encoding="utf-8")):  # the parser would never end
                raise UsageError(f"{given} has a YAML alias inside the value that it stands for: write the value out")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read {given}: {error}") from error
        except YAMLError:
            pass  # the parser says it


def _checkpoint(configured: Configured, verb: Verb) -> Path | None:
    """Return the checkpoint that --ckpt_path names, or None if a phase before the run goes on."""
    given = configured.config_init["ckpt_path"]
    path = last_checkpoint(configured) if given == "last" else given and Path(given)
    if given is None or (verb == "fit" and given == "last" and path is None and has_begun(configured)):
        return None
    if path is None or not path.is_file():
        raise UsageError(
            f"there is no checkpoint {given if path else configured.folder / LAST}: name the folder of the run "
            "by --trainer.default_root_dir, or its checkpoint by --ckpt_path"
        )
    return path
