"""Train a run, with the phases before it, and pack its network."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import yaml
from lightning.pytorch.callbacks import WeightAveraging
from torch import nn

from proxconnect._support import atomic
from proxconnect._support.heap import keep_freed_memory
from proxconnect.conversion import Plan
from proxconnect.deploy.packed import save
from proxconnect.deploy.runtime import pack
from proxconnect.training.checkpoints import LAST
from proxconnect.training.configuration import Configured
from proxconnect.training.lost_ranks import noticing_lost_ranks
from proxconnect.training.module import Training
from proxconnect.training.precision import warn_of_slow_bfloat16
from proxconnect.training.sharding import gathered

FLOAT, ACTIVATIONS = "float", "activations"  # the phases, and their folders in that of the run
CONFIGURATION, PACKED = "config.yaml", "network.safetensors"

Plain = dict[str, Any]


@dataclass(frozen=True)
class Shipped:
    """A record of a packed network: its file, the size of that, `float_bytes(network)`, and the layers left float."""

    path: Path
    packed_bytes: int
    float_bytes: int
    stays_float: tuple[str, ...]


def fit(run: Configured, callbacks: Sequence[lightning.Callback] = (), checkpoint: Path | None = None) -> None:
    """Train the run to its end, from `checkpoint`, or else from its start, after the phases that it asks for.

    `callbacks` are added to its trainer and those of the phases. The options are written to config.yaml in its folder.
    CheckpointError if `checkpoint` is not of this run, ValueError as in `phases`, TerminatedError after SIGTERM,
    LostRankError if another process of the run has ended. A warning says if bfloat16 is slow on this processor. From
    now on, the process keeps the memory that it frees.
    """
    keep_freed_memory()
    warn_of_slow_bfloat16(run.trainer)
    if run.model.start.float_epochs or run.model.start.activation_epochs:
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
    run.folder.mkdir(parents=True, exist_ok=True)
    with atomic.replacing(run.folder / CONFIGURATION) as temporary:
        temporary.write_text(run.text(), encoding="utf-8")
    run.trainer.callbacks[:0] = callbacks  # type: ignore[attr-defined]  # Lightning sets it in a connector
    with noticing_lost_ranks(run.trainer, run.folder / LAST):
        run.trainer.fit(run.model, datamodule=run.datamodule, ckpt_path=checkpoint, weights_only=True)
    for callback in run.trainer.callbacks:  # type: ignore[attr-defined]  # as above
        if isinstance(callback, WeightAveraging):
            callback.on_train_end(run.trainer, run.model)  # Lightning leaves this out if the run was at its end


def last_checkpoint(run: Configured) -> Path | None:
    """Return the path of last.ckpt in the folder of the run, or None if there is none."""
    path = run.folder / LAST
    return path if path.exists() else None


def has_begun(run: Configured) -> bool:
    """Return True if there is a last.ckpt of the run or of one of its phases."""
    start = run.model.start
    places = {"": True, FLOAT: start.float_epochs > 0, ACTIVATIONS: start.activation_epochs > 0}
    return any(is_its and (run.folder / place / LAST).exists() for place, is_its in places.items())


def phases(configuration: Plain) -> list[tuple[str, Plain]]:
    """Return the phases to train before a run, in order: the name, "float" or "activations", and the options of each.

    A second starts from the checkpoint of the first. ValueError for `activation_epochs` without binary activations.
    """
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


def ship(module: Training, folder: Path) -> Shipped | None:
    """Pack the hard network of `module`, with batch norm re-estimated, to network.safetensors in `folder`.

    Call it on all processes. Return a `Shipped`, or None for a float network and on all processes but the first.
    """
    plan = getattr(module.network, "binarization", None)
    if not isinstance(plan, Plan):
        return None
    path = folder / PACKED
    with module.accuracies.hardened(module.calibration_batches()) as network:
        whole = gathered(network, module.build)
        if not module.trainer.is_global_zero:
            return None
        save(pack(whole.eval()), path)
    floats = tuple(row.name for row in plan.rows if row.weights is None)
    return Shipped(path, path.stat().st_size, float_bytes(module.network), floats)


def float_bytes(network: nn.Module) -> int:
    """Return the bytes of the state dict of `network`, latents included, without the values of quantizers."""
    state = network.state_dict()
    return sum(t.nbytes for name, t in state.items() if "_quantizer." not in name)


def _changed(configuration: Plain, name: str, epochs: int, model: Plain) -> Plain:
    """Return the configuration of the phase `name`: PC++ without a teacher, in a folder in that of the run."""
    changed = deepcopy(configuration)
    changed["model"] |= {"rule": "pc++", "teacher": None, "clip": None, **model}
    changed["model"]["start"] |= {"float_epochs": 0, "activation_epochs": 0}
    folder = Path(configuration["trainer"]["default_root_dir"]) / name
    changed["trainer"] |= {"max_epochs": epochs, "default_root_dir": str(folder)}
    return changed
