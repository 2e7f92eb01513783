"""One run from plain data to plain data: what a study and a script make of a configuration."""

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import lightning

from proxconnect.bench.memory import own_peak, reset_peak
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
    ships; a float network has it alone), the "curve" by epoch, "steps", "seconds" of this process (of the whole run
    only where it was not stopped), "peak_memory_bytes" of the process, "packed_bytes" (None for a float network),
    "float_bytes" and "stays_float". UsageError for a configuration that the parser does not know.
    """
    began = time.perf_counter()
    reset_peak()
    trainer = configuration.get("trainer", {}) | QUIET | {"default_root_dir": str(folder)}
    with _quiet():
        with complaining():
            run = Configured(configuration | {"trainer": trainer, "health": False})
        fit(run, [_Reporting(on_progress)], last_checkpoint(run))
        last = run.model.curve[-1]
        shipped = ship(run.model, folder)
    return {
        "accuracy": {_short(name): share for name, share in last.items() if name.startswith("accuracy")},
        "curve": run.model.curve,
        "steps": run.trainer.global_step,
        "seconds": time.perf_counter() - began,
        "peak_memory_bytes": own_peak(),
        "packed_bytes": None if shipped is None else shipped.packed_bytes,
        "float_bytes": float_bytes(run.model.network),
        "stays_float": [] if shipped is None else list(shipped.stays_float),
    }


def _short(name: str) -> str:
    return {"accuracy": "reestimated"}.get(name, name.removeprefix("accuracy_"))


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
