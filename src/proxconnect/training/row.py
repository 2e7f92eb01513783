"""One row of a study: train and measure a plain configuration, and return plain data."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning

from proxconnect.inspection.memory import own_peak, reset_peak
from proxconnect.training.configuration import Configured, quiet
from proxconnect.training.runs import fit, float_bytes, last_checkpoint, ship

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}

_NAMES = {"accuracy": "reestimated", "accuracy_hard": "hard", "accuracy_soft": "soft"}

Progress = tuple[int, int]  # optimizer steps that are done, and their total, of the run or of its phase


def run_row(configuration: dict[str, Any], folder: Path, on_progress: Callable[[Progress], None]) -> dict[str, Any]:
    """Train a configuration, as in YAML files of `fit`, from the last checkpoint in `folder` if any, and measure it.

    `on_progress` is called after each batch with a `Progress`. UsageError for a wrong option, ValueError if the last
    epoch was not validated. Return "accuracy" (of "reestimated", "hard" and "soft" those that `Accuracies` has, in
    [0, 1]), the "curve" of `Training`, "steps", "seconds" without work lost after a checkpoint, "peak_memory_bytes",
    "float_bytes", "packed_bytes" (None for a float network), and "stays_float", names of layers (none for a float one).
    """
    stopwatch = _Stopwatch(on_progress)
    reset_peak()
    trainer = configuration.get("trainer", {}) | QUIET | {"default_root_dir": str(folder)}
    with quiet():
        run = Configured(configuration | {"trainer": trainer, "health": False})
        fit(run, [stopwatch], last_checkpoint(run))
        last = run.model.curve[-1] if run.model.curve else {}
        accuracies = {_NAMES[name]: share for name, share in last.items() if name in _NAMES}
        if not accuracies:
            raise ValueError(
                "the run was not validated after its last epoch: let trainer.max_epochs be a multiple of "
                "trainer.check_val_every_n_epoch, and leave max_steps and limit_val_batches out"
            )
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


class _Stopwatch(lightning.Callback):
    """Report steps, and count seconds, phases included, on from those of the checkpoint if the run was stopped."""

    def __init__(self, on_progress: Callable[[Progress], None]) -> None:
        self._on_progress, self._began = on_progress, time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._began = time.perf_counter() - state_dict["seconds"]

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        self._on_progress((trainer.global_step, int(trainer.estimated_stepping_batches)))
