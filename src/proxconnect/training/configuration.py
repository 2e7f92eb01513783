"""From a configuration, by YAML files, options or plain data, to a trainer, a module and a data module."""

import warnings
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from proxconnect.training.bar import Bar
from proxconnect.training.checkpoints import LastCheckpoint, WholeFiles
from proxconnect.training.data import modules  # noqa: F401  # so that --data takes the names of its classes alone
from proxconnect.training.health import Health
from proxconnect.training.module import Training
from proxconnect.training.parser import TrainingParser

DEFAULTS = {
    "default_root_dir": "runs/default",
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "enable_checkpointing": True,
}
"""Where the options of Lightning's Trainer have other defaults here."""

Arguments = Sequence[str] | Mapping[str, Any]


class Configured(LightningCLI):
    """`trainer`, `model` (a `Training`) and `datamodule` as the arguments say; nothing runs.

    The options are `--trainer.*`, those of Lightning's Trainer; `--model.*`, those of `Training`; `--data`, a class of
    proxconnect.training.data.modules and its options; `--checkpoint.*`, those of `LastCheckpoint`; `--seed_everything`,
    the one seed of all; `--ckpt_path`, the checkpoint to go on from; `--health`, whether the binary layers are watched;
    and `--config`, files of them, each over the one before. `manual` is what the help has besides options: prog,
    description and epilog, as argparse takes them.
    """

    def __init__(self, arguments: Arguments, manual: Mapping[str, str] | None = None) -> None:
        super().__init__(
            Training, lightning.LightningDataModule, subclass_mode_data=True, save_config_callback=None,
            trainer_defaults=dict(DEFAULTS), seed_everything_default=0, auto_configure_optimizers=False,
            load_from_checkpoint_support=False, run=False, parser_class=TrainingParser,
            parser_kwargs={"prog": "proxconnect fit", **(manual or {})},
            args=dict(arguments) if isinstance(arguments, Mapping) else list(arguments),
        )  # fmt: skip

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """What Lightning's command line has not."""
        parser.add_lightning_class_args(LastCheckpoint, "checkpoint")
        parser.add_argument("--ckpt_path", type=str | None, default=None,
                            help="the checkpoint to go on from or to evaluate; last for the run's own")  # fmt: skip
        parser.add_argument("--health", type=bool, default=True,
                            help="log how the binary layers fare, and warn of what goes wrong")  # fmt: skip
        parser.link_arguments("seed_everything", "data.init_args.seed")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """As Lightning's, but for its warning where the process has arguments too: those of a phase are ours."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "LightningCLI's args parameter")
            super().parse_arguments(parser, args)

    def instantiate_trainer(self, **kwargs: Any) -> lightning.Trainer:
        """The trainer, with whole checkpoints, and unless turned off with our loggers, bar and watch over the health.

        The loggers are in the folder of the run.
        """
        given = self.config_init["trainer"]
        if given.logger in (None, True):
            kwargs["logger"] = _loggers(Path(given.default_root_dir))
        trainer = super().instantiate_trainer(**kwargs, callbacks=_watched(given, self.config_init["health"]))
        trainer.strategy.checkpoint_io = WholeFiles()
        return trainer

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return Path(self.trainer.default_root_dir)

    def text(self) -> str:
        """The whole configuration as YAML, which `--config` takes; it begins anew, wherever this run went on from."""
        anew = self.config.clone()
        anew["ckpt_path"] = None
        return str(self.parser.dump(anew, skip_unset=False))


def parser() -> LightningArgumentParser:
    """The parser of the options, which takes none."""
    try:
        _Unparsed([])
    except _BuiltError as built:
        return built.parser
    raise AssertionError("Lightning's command line parses no arguments any more")


class _BuiltError(Exception):
    """The parser is built, which was all that was wanted."""

    def __init__(self, parser: LightningArgumentParser) -> None:
        self.parser = parser


class _Unparsed(Configured):
    """What stops before it parses."""

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        raise _BuiltError(parser)


def _watched(given: Any, health: bool) -> list[lightning.Callback]:
    """The callbacks that are given, with a bar and a watch over the health where these are wanted."""
    callbacks = given.callbacks if isinstance(given.callbacks, list) else [given.callbacks] * bool(given.callbacks)
    has_bar = given.enable_progress_bar is False or any(isinstance(callback, ProgressBar) for callback in callbacks)
    return [*callbacks, *([] if has_bar else [Bar()]), *([Health()] if health else [])]


def _loggers(folder: Path) -> list[Logger]:
    """TensorBoard and CSV, in a folder of their own for each time that the run goes on."""
    version = next(f"logs/{i}" for i in count() if not (folder / "logs" / str(i)).exists())
    kinds = (CSVLogger, TensorBoardLogger)  # CSV would warn of what the other has put there
    return [kind(folder, name="", version=version) for kind in kinds]
