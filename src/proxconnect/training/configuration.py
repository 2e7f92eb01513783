"""Build a trainer, a module and a data module from YAML files, options or plain data."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from rich.progress import TimeRemainingColumn

from proxconnect.training.checkpoints import LastCheckpoint, WholeFiles
from proxconnect.training.data import modules  # noqa: F401  # so that --data takes the bare names of its classes
from proxconnect.training.health import Health
from proxconnect.training.module import Training
from proxconnect.training.parser import Formatter, TrainingParser, complaining


class Configured(LightningCLI):
    """A `trainer`, a `model` (`Training`) and a `datamodule`, built from options; nothing runs.

    The options are `--trainer.*`, `--model.*` (of `Training`), `--data` (a class of proxconnect.training.data.modules)
    and `--data.*`, `--checkpoint.*` (of `LastCheckpoint`), `--seed_everything`, `--ckpt_path`, `--health`, and
    `--config`, files of options, each over the one before.

    UsageError for options that do not exist or do not fit. `manual` are prog, description and epilog of the help.
    """

    def __init__(self, arguments: Sequence[str] | Mapping[str, Any], manual: Mapping[str, str] | None = None) -> None:
        defaults = {
            "default_root_dir": "runs/default", "num_sanity_val_steps": 0,
            "enable_model_summary": False, "enable_checkpointing": True,
        }  # fmt: skip
        help_of_fit = {"prog": "proxconnect fit", "usage": "%(prog)s [--json] --config RECIPE.yaml [OPTION ...]"}
        with complaining(), quiet():
            super().__init__(
                Training, lightning.LightningDataModule, subclass_mode_data=True, save_config_callback=None,
                trainer_defaults=defaults, seed_everything_default=0, auto_configure_optimizers=False,
                load_from_checkpoint_support=False, run=False, parser_class=TrainingParser,
                parser_kwargs={"formatter_class": Formatter, **help_of_fit, **(manual or {})},
                args=dict(arguments) if isinstance(arguments, Mapping) else list(arguments),
            )  # fmt: skip

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options that Lightning's command line does not have."""
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
        """Build the trainer, with whole checkpoints, and our loggers, bar and health unless they are turned off."""
        given = self.config_init["trainer"]
        if given.logger in (None, True):
            folder = Path(given.default_root_dir)  # a new one below it each time that the run goes on
            version = next(f"logs/{i}" for i in count() if not (folder / "logs" / str(i)).exists())
            kinds = (CSVLogger, TensorBoardLogger)  # in this order, else CSV warns of the files of TensorBoard
            kwargs["logger"] = [kind(folder, name="", version=version) for kind in kinds]
        callbacks = given.callbacks if isinstance(given.callbacks, list) else [given.callbacks] * bool(given.callbacks)
        has_bar = given.enable_progress_bar is False or any(isinstance(c, ProgressBar) for c in callbacks)
        ours = [*([] if has_bar else [Bar()]), *([Health()] if self.config_init["health"] else [])]
        trainer = super().instantiate_trainer(**kwargs, callbacks=[*callbacks, *ours])
        trainer.strategy.checkpoint_io = WholeFiles()
        return trainer

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return Path(self.trainer.default_root_dir)

    def text(self) -> str:
        """Return all options as YAML for `--config`, without the checkpoint that this run went on from."""
        anew = self.config.clone()
        anew["ckpt_path"] = None
        return str(self.parser.dump(anew, skip_unset=False))


class Bar(RichProgressBar):
    """A bar with the loss, the mean μ, and the latest accuracy of what ships."""

    def __init__(self) -> None:
        super().__init__(theme=RichProgressBarTheme(metrics_format=".3g"))

    def configure_columns(self, trainer: lightning.Trainer) -> list[Any]:
        """Shorten Lightning's bar, and of the times keep the remaining one."""
        description, bar, batches, *_ = super().configure_columns(trainer)
        bar.bar_width = 16
        return [description, bar, batches, TimeRemainingColumn()]

    def get_metrics(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return values by names short enough for 80 columns; a later "loss" replaces an earlier one."""
        shown = {"train/loss": "loss", "loss": "loss", "mu": "μ", "val/accuracy": "acc"}
        logged = trainer.callback_metrics
        return {short: float(logged[name]) for name, short in shown.items() if name in logged}


def parser() -> LightningArgumentParser:
    """Return the parser of all options."""
    return Configured(["--data=Digits", "--trainer.accelerator=cpu", "--trainer.logger=false"]).parser


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Lightning's advice."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
