"""`proxconnect fit | validate | test`, from the arguments of the command line to what is printed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from proxconnect._support.text import some
from proxconnect._support.user_code import importable_folder
from proxconnect.training.checkpoints import LAST
from proxconnect.training.complaints import UsageError, complaining
from proxconnect.training.configuration import Configured
from proxconnect.training.launchers import ending_with_launcher
from proxconnect.training.lost_ranks import telling
from proxconnect.training.models import names
from proxconnect.training.runs import fit, has_begun, last_checkpoint
from proxconnect.training.shipping import Shipped, ship

Verb = Literal["fit", "validate", "test"]
_LAST = "last"
"""What --ckpt_path takes for the checkpoint of the run itself."""

_TITLES = {
    "accuracy": "Accuracy of what ships",
    "accuracy_hard": "before re-estimation",
    "accuracy_soft": "of the soft network",
}


@dataclass(frozen=True)
class Outcome:
    """What a run measured and made."""

    measured: Mapping[str, float]
    shipped: Shipped | None = None

    def plain(self) -> dict[str, Any]:
        """It as plain data: accuracies in [0, 1], None for what was not measured; bytes."""
        return {
            **{name: self.measured.get(name) for name in _TITLES},
            "packed": None if self.shipped is None else asdict(self.shipped),
        }


def run(
    verb: Verb, arguments: Sequence[str], console: Console, manual: Mapping[str, str] | None = None
) -> Outcome | None:
    """Do what the arguments of `proxconnect VERB` say and print what came of it; `manual` as of `Configured`.

    None in all processes but the first, which print nothing.

    UsageError for arguments and files that are not right; ValueError and OSError of what runs.
    """
    _require_files(arguments)
    with importable_folder():
        configured = _configured(verb, arguments, manual)
        outcome = (_fit if verb == "fit" else _evaluate)(verb, configured)
    if not configured.trainer.is_global_zero:
        return None
    _print(console, outcome)
    return outcome


def _fit(verb: Verb, configured: Configured) -> Outcome:
    _require_new(configured)
    fit(configured, checkpoint=_checkpoint(configured, verb))
    measured = configured.model.curve[-1] if configured.model.curve else {}
    return Outcome(measured, ship(configured.model, configured.folder))


def _evaluate(verb: Verb, configured: Configured) -> Outcome:
    checkpoint = _checkpoint(configured, verb)
    if checkpoint is None:
        raise UsageError(f"{verb} needs a trained network: give --ckpt_path runs/NAME/last.ckpt")
    evaluate = configured.trainer.validate if verb == "validate" else configured.trainer.test
    with ending_with_launcher(configured.trainer), telling(configured.trainer):
        measured = evaluate(
            configured.model, datamodule=configured.datamodule, ckpt_path=checkpoint, verbose=False, weights_only=True
        )
    return Outcome({name.partition("/")[2]: value for name, value in measured[0].items()})


def _configured(verb: Verb, arguments: Sequence[str], manual: Mapping[str, str] | None) -> Configured:
    """What the arguments say; UsageError in one line, with near names for what is not known."""
    with complaining():
        configured = Configured(arguments, {"prog": f"proxconnect {verb}", **(manual or {})})
        network = configured.config.model.network.name
        if ":" not in network:
            names.find(network)
        return configured


def _require_files(arguments: Sequence[str]) -> None:
    """UsageError where --config names no file, with the near names of those beside it."""
    for given in _configs(arguments):
        if not Path(given).is_file():
            folder = Path(given).parent
            there = sorted(str(path) for path in folder.rglob("*.yaml")) if folder.is_dir() else []
            near = get_close_matches(given, there, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"{folder}/ has {some(there) or 'no *.yaml'}"
            raise UsageError(f"there is no recipe {given}: {hint}")


def _configs(arguments: Sequence[str]) -> Iterator[str]:
    """The files that --config names."""
    for word, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        if word in ("--config", "-c"):
            yield following
        elif word.startswith("--config="):
            yield word.removeprefix("--config=")


def _checkpoint(configured: Configured, verb: Verb) -> Path | None:
    """The checkpoint that --ckpt_path names, None where a phase before the run goes on; UsageError for no such file."""
    given = configured.config_init["ckpt_path"]
    path = last_checkpoint(configured) if given == _LAST else given and Path(given)
    if given is None or (verb == "fit" and given == _LAST and path is None and has_begun(configured)):
        return None
    if path is None or not path.is_file():
        raise UsageError(
            f"there is no checkpoint {given if path else configured.folder / LAST}: name the folder of the run "
            "by --trainer.default_root_dir, or its checkpoint by --ckpt_path"
        )
    return path


def _require_new(configured: Configured) -> None:
    """UsageError where a run would begin in the folder of another, whose checkpoint, or float phase, it would take.

    UsageError too where a file is in the place of the folder.
    """
    if configured.folder.exists() and not configured.folder.is_dir():
        raise UsageError(f"{configured.folder} is a file: give a folder by --trainer.default_root_dir")
    if configured.config_init["ckpt_path"] is None and has_begun(configured):
        raise UsageError(
            f"{configured.folder} holds a run already: go on with it by --ckpt_path last, or give another folder by "
            "--trainer.default_root_dir"
        )


def _print(console: Console, outcome: Outcome) -> None:
    """What was measured and made."""
    measured, shipped = outcome.measured, outcome.shipped
    table = Table(box=None, show_header=False)
    if "accuracy" not in measured:
        table.add_row(_TITLES["accuracy"], "not measured after the last epoch: proxconnect validate does it")
    for name, title in _TITLES.items():
        if name in measured:
            table.add_row(title, f"{100 * measured[name]:.2f} %")
    if shipped is not None:
        table.add_row("Packed", f"{shipped.packed_bytes:,} bytes of {shipped.float_bytes:,} in {shipped.path}")
        table.add_row("Stays float", some(list(shipped.stays_float)))
    console.print(table)
