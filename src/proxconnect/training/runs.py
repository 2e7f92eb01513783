"""Train a run, with the phases before it, from its beginning or from where it was stopped."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import yaml
from lightning.pytorch.callbacks import WeightAveraging

from proxconnect._support import atomic
from proxconnect.training.checkpoints import LAST
from proxconnect.training.configuration import Configured
from proxconnect.training.lost_ranks import noticing_lost_ranks

CONFIG = "config.yaml"
FLOAT, ACTIVATIONS = "float", "activations"
"""The phases, and their folders in that of the run."""

Plain = dict[str, Any]


def fit(run: Configured, callbacks: Sequence[lightning.Callback] = (), checkpoint: Path | None = None) -> None:
    """Train the run to its end, from `checkpoint` or else from its start, after the phases before it.

    A finished phase is not run again, and a stopped one goes on.

    Raises:
        TerminatedError: after SIGTERM.
        LostRankError: if another process of the run has ended.
    """
    if run.model.start.has_phases:
        _run_phases(run, callbacks)
    run.folder.mkdir(parents=True, exist_ok=True)
    with atomic.replacing(run.folder / CONFIG) as temporary:
        temporary.write_text(run.text())
    run.trainer.callbacks[:0] = callbacks  # type: ignore[attr-defined]  # Lightning sets it in a connector
    with noticing_lost_ranks(run.trainer, run.folder / LAST):
        run.trainer.fit(run.model, datamodule=run.datamodule, ckpt_path=checkpoint, weights_only=True)
    for callback in run.trainer.callbacks:  # type: ignore[attr-defined]  # as above
        if isinstance(callback, WeightAveraging):
            callback.on_train_end(run.trainer, run.model)  # Lightning leaves this out if the run was at its end


def last_checkpoint(run: Configured) -> Path | None:
    """Return the checkpoint in the folder of the run, or None."""
    path = run.folder / LAST
    return path if path.exists() else None


def has_begun(run: Configured) -> bool:
    """Return if the folder of the run holds a checkpoint, of the run or of a phase before it."""
    start = run.model.start
    places = {"": True, FLOAT: start.float_epochs > 0, ACTIVATIONS: start.activation_epochs > 0}
    return any(is_its and (run.folder / place / LAST).exists() for place, is_its in places.items())


def phases(configuration: Plain) -> list[tuple[str, Plain]]:
    """Return the names and configurations of the runs before this one; each starts from the end of the one before."""
    start = configuration["model"]["start"]
    before: list[tuple[str, Plain]] = []
    if start["float_epochs"]:
        before.append((FLOAT, _changed(configuration, FLOAT, start["float_epochs"], {"binary": None})))
    if start["activation_epochs"]:
        binary = (configuration["model"]["binary"] or {}) | {"weights": "fp"}
        if not binary.get("activations"):
            raise ValueError("activation_epochs is for binary activations: give model.binary.activations")
        second = _changed(configuration, ACTIVATIONS, start["activation_epochs"], {"binary": binary})
        if before:
            second["model"]["start"]["checkpoint"] = str(Path(before[0][1]["trainer"]["default_root_dir"]) / LAST)
        before.append((ACTIVATIONS, second))
    return before


def _run_phases(run: Configured, callbacks: Sequence[lightning.Callback]) -> None:
    path = floats = run.model.start.checkpoint
    for name, configuration in phases(yaml.safe_load(run.text())):
        phase = Configured(configuration)
        fit(phase, callbacks, last_checkpoint(phase))
        path = last_checkpoint(phase)
        floats = path if name == FLOAT else floats
    teacher = run.model.teacher
    if teacher is not None and teacher.network is None and teacher.checkpoint is None:
        run.model.teacher = replace(teacher, network=run.model.float_network, checkpoint=floats)
    run.model.start = replace(run.model.start, checkpoint=path, float_epochs=0, activation_epochs=0)


def _changed(configuration: Plain, name: str, epochs: int, model: Plain) -> Plain:
    """Return the configuration of a phase: PC++ without a teacher, in a folder within that of the run."""
    changed = deepcopy(configuration)
    changed["model"] |= {"rule": "pc++", "teacher": None, "clip": None, **model}
    changed["model"]["start"] |= {"float_epochs": 0, "activation_epochs": 0}
    folder = Path(configuration["trainer"]["default_root_dir"]) / name
    changed["trainer"] |= {"max_epochs": epochs, "default_root_dir": str(folder)}
    return changed
