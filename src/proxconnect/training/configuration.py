"""Build a trainer, a module and a data module from YAML files, options or plain data, with short help and errors."""

import argparse
import dataclasses
import inspect
import logging
import os
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import lightning
import yaml
from jsonargparse import DefaultHelpFormatter, Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from rich.progress import TimeRemainingColumn
from torch.utils._pytree import tree_map, tree_map_only

from proxconnect.layers import Accumulator
from proxconnect.training.binarization import Binarization, Course
from proxconnect.training.checkpoints import LastCheckpoint, WholeFiles
from proxconnect.training.data.modules import (
    Cifar10,
    Cifar100,
    Digits,
    FashionMnist,
    ImageData,
    ImageNet,
    PictureFolder,
    TorchDatasets,
)
from proxconnect.training.health import Health
from proxconnect.training.module import Training
from proxconnect.training.teacher import Teacher

DATA = (Digits, FashionMnist, Cifar10, Cifar100, ImageNet, PictureFolder, TorchDatasets)
"""The data modules, which --data takes by the name of the class."""

_NESTED: dict[str, Any] = {
    "model.binary": Binarization,
    "model.binary.accumulator": Accumulator,
    "model.sharpening.activations": Course,
    "model.teacher": Teacher,
}

_STRAY = re.compile(r"unrecognized arguments: ([^-\s]\S*)")
_OPTION_OF = {".yaml": "--config", ".yml": "--config", ".ckpt": "--ckpt_path"}
"""The options that take files of these endings."""
_UNKNOWN = re.compile(r"[Oo]ption '([\w.]+)'|unrecognized arguments: --([\w.]+)")
_OR_NULL = re.compile(
    r"Does not validate against any of the Union subtypes\s*Subtypes:.*?Errors:\s*- (.*)\s*- Expected a "
    r"<class 'NoneType'>.*",
    re.DOTALL,
)
_NO_RECIPE = ". --config takes a YAML file of options, as recipes/small_cnn_digits.yaml"
_HINTS = {
    "required: data": ": give a recipe by --config, as recipes/small_cnn_digits.yaml, or a data set by --data",
    "Unexpected config": _NO_RECIPE,
    "Problems parsing config": _NO_RECIPE,
}


class UsageError(ValueError):
    """The error for wrong options, or wrong files that they name; the message says what is wrong."""


class Formatter(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """A help formatter for argparse that keeps the line breaks of a description, and wraps long options."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        whole, width = super()._format_action_invocation(action), self._width - self._current_indent
        if len(whole) <= width:
            return whole
        words = textwrap.wrap(whole.replace(",", ", "), max(width - 4, 11), break_on_hyphens=False)
        return "\n      ".join(line.replace(", ", ",") for line in words)


class TrainingParser(LightningArgumentParser):
    """Lightning's argument parser, which raises a UsageError for wrong options instead of ending the process."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise a UsageError with the parser's `message`; for an unknown option or a word alone, say what to write."""
        if stray := _STRAY.search(message):
            option = _OPTION_OF.get(Path(stray[1]).suffix, "--NAME")
            raise UsageError(f"{stray[1]!r} stands without an option: give it as {option} {stray[1]}") from ex
        unknown = _UNKNOWN.search(message)
        if unknown is None:
            hint = next((hint for sign, hint in _HINTS.items() if sign in message), "")
            raise UsageError(_short(message)[:400] + hint) from ex
        name = next(group for group in unknown.groups() if group)
        listed = [option.removeprefix("--") for action in self._actions for option in action.option_strings]
        known = {*listed, *nested_names()} - {name}
        ends = {full.rpartition(".")[2]: full for full in sorted(known)}
        near = get_close_matches(name, known, n=3, cutoff=0.7)
        near = near or [ends[end] for end in get_close_matches(name.rpartition(".")[2], ends, n=3, cutoff=0.7)]
        hint = f"did you mean {' or '.join(near)}?" if near else "proxconnect fit --help lists the options"
        raise UsageError(f"there is no option {name}: {hint}") from ex


def nested_names() -> Iterator[str]:
    """Yield names of nested options that the parser does not list, as "model.binary.scale" or "data.init_args.seed"."""
    for where, cls in _NESTED.items():
        yield from (f"{where}.{field.name}" for field in dataclasses.fields(cls))
    for base in dict.fromkeys(base for cls in DATA for base in cls.__mro__ if issubclass(base, ImageData)):
        yield from (f"data.init_args.{name}" for name in inspect.signature(base).parameters)


def _short(error: str) -> str:
    """Return one line; of a value that may also be null, keep only why it is no other value."""
    while (shorter := _OR_NULL.sub(r"\1", error)) != error:
        error = shorter
    return " ".join(error.split())


def _no_groups(defaults: Namespace, given: Namespace, before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield name and value of each option in `given` that is a group in `defaults`, but neither a group nor null."""
    for name, default in vars(defaults).items():
        value = given.get(name)
        if isinstance(default, Namespace) and isinstance(value, Namespace):
            yield from _no_groups(default, value, f"{before}{name}.")
        elif isinstance(default, Namespace) and (value is not None or not before):
            yield before + name, value


def _with_files(options: Mapping[str, Any]) -> dict[str, Any] | list[str]:
    """Return nested options as Lightning takes them: as strings if they name files, which it would not merge."""
    rest: dict[str, Any] = tree_map(lambda leaf: leaf, dict(options))  # new containers: the parser writes into them
    given = rest.pop("config", None)
    if given is None:
        return rest
    files = given if isinstance(given, list | tuple) else [given]
    if not all(isinstance(file, str | os.PathLike) for file in files):
        raise ValueError(f"config takes a path or a list of paths; got {given!r}")
    try:
        text = yaml.safe_dump(tree_map_only(os.PathLike, os.fspath, rest), default_flow_style=True)
    except yaml.YAMLError as error:
        raise ValueError(f"options beside config must be plain data, as in a YAML file: {error}") from error
    return [f"--config={os.fspath(source)}" for source in (*files, text)]


class Configured(LightningCLI):
    """A configured run: its `trainer`, `model` (a `Training`) and `datamodule`, built from options but not started.

    `arguments` are the options of `proxconnect fit`, as strings or nested as in a YAML file: `--trainer.*`, `--model.*`
    (of `Training`), `--data` (a class of proxconnect.training.data.modules), `--data.*`, `--checkpoint.*` (of
    `LastCheckpoint`), `--ckpt_path`, `--health`, `--seed_everything`, and `--config`, a file of options. The global
    random generators are seeded by `--seed_everything`, 0 by default.

    Among strings, each option and each file overrides those before it. Among nested options, `config` is a path or a
    list of them, and the other options override its files. `manual` replaces "prog", "description" or "epilog" of the
    help. UsageError for wrong options.
    """

    def __init__(self, arguments: Sequence[str] | Mapping[str, Any], manual: Mapping[str, str] | None = None) -> None:
        defaults = {
            "default_root_dir": "runs/default", "num_sanity_val_steps": 0,
            "enable_model_summary": False, "enable_checkpointing": True,
        }  # fmt: skip
        help_of_fit = {"prog": "proxconnect fit", "usage": "%(prog)s [--json] --config RECIPE.yaml [OPTION ...]"}
        try:
            with quiet():
                super().__init__(
                    Training, lightning.LightningDataModule, subclass_mode_data=True, save_config_callback=None,
                    trainer_defaults=defaults, seed_everything_default=0, auto_configure_optimizers=False,
                    load_from_checkpoint_support=False, run=False, parser_class=TrainingParser,
                    parser_kwargs={"formatter_class": Formatter, **help_of_fit, **(manual or {})},
                    args=_with_files(arguments) if isinstance(arguments, Mapping) else list(arguments),
                )  # fmt: skip
        except ValueError as error:
            raise UsageError(_short(str(error))) from error
        except (MisconfigurationException, ModuleNotFoundError) as error:
            why = " ".join(str(error).split())
            is_of_machine = any(
                word in why for word in ("accelerator", "device", "backend", "No module", "Requirement")
            )
            advice = (
                " Say what this machine has by --trainer.accelerator and --trainer.devices" if is_of_machine else ""
            )
            raise UsageError(f"Lightning's trainer cannot be made here: {why}{advice}") from None

    def before_instantiate_classes(self) -> None:
        """Raise ValueError for a value in place of a group of options, as in `trainer: 3`; the parser lets it pass."""
        for name, value in _no_groups(self.parser.get_defaults(), self.config):
            raise ValueError(f"{name} is a group of options, as {name}: {{NAME: VALUE}}; got {value!r}")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add `--checkpoint.*`, `--ckpt_path` and `--health` to `parser`; let `--seed_everything` seed the data too."""
        parser.add_lightning_class_args(LastCheckpoint, "checkpoint")
        parser.add_argument("--ckpt_path", type=str | None, default=None,
                            help="the checkpoint to go on from or to evaluate; last for the run's own")  # fmt: skip
        parser.add_argument("--health", type=bool, default=True,
                            help="log the health of the binary layers, and warn of problems")  # fmt: skip
        parser.link_arguments("seed_everything", "data.init_args.seed")
        assert parser.groups is not None
        parser.groups["trainer"].title = "the training, by Lightning's Trainer"
        parser.groups["data"].title = "the data"

    def instantiate_trainer(self, **kwargs: Any) -> lightning.Trainer:
        """Return the trainer, with `WholeFiles`, CSV and TensorBoard loggers, a `Bar` and a `Health`.

        Options can turn off all but the first, and replace the loggers and the bar.
        """
        given = self.config_init["trainer"]
        if given.logger in (None, True):
            folder = Path(given.default_root_dir)  # a new one below it each time that the run goes on
            version = next(f"logs/{i}" for i in count() if not (folder / "logs" / str(i)).exists())
            kinds = (CSVLogger, TensorBoardLogger)  # in this order, else CSV warns of the files of TensorBoard
            kwargs["logger"] = [kind(folder, name="", version=version) for kind in kinds]
        callbacks = given.callbacks if isinstance(given.callbacks, list) else [given.callbacks] * bool(given.callbacks)
        has_bar = given.enable_progress_bar is False or any(isinstance(c, ProgressBar) for c in callbacks)
        ours = [*([] if has_bar else [Bar()]), *([Health()] if self.config_init["health"] else [])]
        try:
            trainer = super().instantiate_trainer(**kwargs, callbacks=[*callbacks, *ours])
        except TypeError as error:  # as of a wrong number of devices
            raise MisconfigurationException(str(error)) from error
        trainer.strategy.checkpoint_io = WholeFiles()
        return trainer

    @property
    def folder(self) -> Path:
        """The folder of the run, `--trainer.default_root_dir`, which need not exist yet."""
        return Path(self.trainer.default_root_dir)

    def text(self) -> str:
        """Return all options of the run as YAML that `--config` takes, with `ckpt_path` null."""
        anew = self.config.clone()
        anew["ckpt_path"] = None
        return str(self.parser.dump(anew, skip_unset=False))


class Bar(RichProgressBar):
    """A progress bar with the loss, mean μ of weights and latest validation accuracy, as far as these are logged."""

    def __init__(self) -> None:
        super().__init__(theme=RichProgressBarTheme(metrics_format=".3g"))

    def configure_columns(self, trainer: lightning.Trainer) -> list[Any]:
        """Return the columns of the bar: the description, a short bar, the batch count and the remaining time."""
        description, bar, batches, *_ = super().configure_columns(trainer)
        bar.bar_width = 16
        return [description, bar, batches, TimeRemainingColumn()]

    def get_metrics(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> dict[str, Any]:
        """Return the values to show, those that were logged of "loss", "μ" and "acc", as floats."""
        shown = {"train/loss": "loss", "loss": "loss", "mu": "μ", "val/accuracy": "acc"}
        logged = trainer.callback_metrics
        return {short: float(logged[name]) for name, short in shown.items() if name in logged}


def parser() -> LightningArgumentParser:
    """Return the parser of the options of `Configured`, to list or to document them."""
    return Configured(["--data=Digits", "--trainer.accelerator=cpu", "--trainer.logger=false"]).parser


@contextmanager
def quiet() -> Iterator[None]:
    """Within the context, silence warnings from Lightning, and all of its log messages below errors."""
    with warnings.catch_warnings(), ExitStack() as stack:
        warnings.filterwarnings("ignore", module="lightning")
        for logger in (logging.getLogger("lightning.pytorch"), logging.getLogger("lightning.fabric")):
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        yield
