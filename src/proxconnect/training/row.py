"""One run from plain data to plain data: what a study and a script make of a configuration."""

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import lightning

from proxconnect.inspection.memory import own_peak, reset_peak
from proxconnect.training.complaints import complaining
from proxconnect.training.configuration import Configured
from proxconnect.training.runs import fit, last_checkpoint
from proxconnect.training.shipping import float_bytes, ship

QUIET = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
"""What a row asks of the trainer, whatever its configuration says."""


class Progress(NamedTuple):
    """How far a run is: optimizer steps, those of phases before it not counted."""

    done: int
    total: int


def run_row(configuration: dict[str, Any], folder: Path, on_progress: Callable[[Progress], None]) -> dict[str, Any]:
    """Train and measure what `configuration` says, in `folder`, from where a run that was stopped there got to.

    Returns accuracies from 0 to 1 on what validates, "accuracy" ("reestimated", "hard", "soft": the first is of what
    ships; a float network has it alone), the "curve" by epoch, "steps", "seconds" of the whole run, wherever it was
    stopped, but for what was lost after its last checkpoint, "peak_memory_bytes" of the process, with what earlier rows
    left in it, "packed_bytes" (None for a float network), "float_bytes" and "stays_float". UsageError for a
    configuration that the parser does not know; ValueError where the last epoch was not validated.
    """
    stopwatch = _Stopwatch()
    reset_peak()
    trainer = configuration.get("trainer", {}) | QUIET | {"default_root_dir": str(folder)}
    with _quiet():
        with complaining():
            run = Configured(configuration | {"trainer": trainer, "health": False})
        fit(run, [stopwatch, _Reporting(on_progress)], last_checkpoint(run))
        accuracies = _accuracies(run.model.curve)
        shipped = ship(run.model, folder)
    return {
        "accuracy": accuracies,
        "curve": run.model.curve,
        "steps": run.trainer.global_step,
        "seconds": stopwatch.seconds,
        "peak_memory_bytes": own_peak(),
        "packed_bytes": None if shipped is None else shipped.packed_bytes,
        "float_bytes": float_bytes(run.model.network),
        "stays_float": [] if shipped is None else list(shipped.stays_float),
    }


def _accuracies(curve: list[dict[str, float]]) -> dict[str, float]:
    """Those of the last epoch; ValueError without any."""
    found = {_short(name): share for name, share in (curve or [{}])[-1].items() if name.startswith("accuracy")}
    if not found:
        raise ValueError(
            "the run was not validated after its last epoch: let trainer.max_epochs be a multiple of "
            "trainer.check_val_every_n_epoch, and leave max_steps and limit_val_batches out"
        )
    return found


def _short(name: str) -> str:
    return {"accuracy": "reestimated"}.get(name, name.removeprefix("accuracy_"))


class _Stopwatch(lightning.Callback):
    """Counts seconds, and goes on from those of the checkpoint where a run was stopped."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._began = time.perf_counter() - state_dict["seconds"]


class _Reporting(lightning.Callback):
    def __init__(self, on_progress: Callable[[Progress], None]) -> None:
        self.on_progress = on_progress

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        self.on_progress(Progress(trainer.global_step, int(trainer.estimated_stepping_batches)))


@contextmanager
def _quiet() -> Iterator[None]:
    """No advice of Lightning's while a row runs."""
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
