"""Checkpoints from which interrupted runs go on as if nothing had been."""

import random
import time
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import numpy
import torch
from lightning import Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from proxconnect._support import atomic
from proxconnect._support.termination import Notice, TerminatedError
from proxconnect._support.text import some
from proxconnect.deploy.checkpoints import CheckpointError, read_torch

LAST = "last.ckpt"
MOST = 20  # the most calls between two exchanges of an `Agreement`


class WholeFiles(TorchCheckpointIO):
    """A Lightning plugin that writes a checkpoint completely or not at all, and runs no code of one that it reads."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write `checkpoint` to a temporary file, and rename it to `path`; OSError if it cannot be written."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(path) as temporary, temporary.open("wb") as file:
            try:
                torch.save(checkpoint, file)  # to a Python file, whose errors say what is wrong, unlike those of C++
            except RuntimeError as error:  # torch's, on closing an incomplete file
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Return `read_run(path)`; the other arguments are ignored."""
        return read_run(Path(path))


class Agreement:
    """A repeated vote of the processes of a run on yes-or-no wishes: a wish of one process counts for all.

    Votes are about a second apart, or `MOST` calls if that is sooner.
    """

    def __init__(self) -> None:
        self._calls, self._every = 0, 1
        self._asked = time.monotonic()

    def of(self, trainer: Trainer, *wishes: bool, at_once: bool = False) -> list[bool]:
        """Return for each wish whether any process has it; between votes, return False for all wishes.

        `at_once` makes the call a vote. A single process votes at each call. All processes must call this equally
        often, with the same `at_once`.
        """
        if trainer.world_size == 1:
            return list(wishes)
        self._calls += 1
        if self._calls < self._every and not at_once:
            return [False] * len(wishes)
        seconds = (time.monotonic() - self._asked) / self._calls
        told = torch.tensor([*map(float, wishes), seconds], device=trainer.strategy.root_device)
        *wanted, slowest = trainer.strategy.reduce(told, reduce_op="max").tolist()
        self._calls, self._every = 0, max(1, min(MOST, int(1 / max(slowest, 1e-6))))
        self._asked = time.monotonic()
        return [wish > 0 for wish in wanted]


class LastCheckpoint(Checkpoint):
    """A callback that writes the checkpoint `last.ckpt` in the run's folder.

    The file holds all that the run needs to go on bit-exactly, and is also written after each epoch. After a SIGTERM to
    any process it is written after the current optimizer step or, with several processes, a few steps later. The run
    then ends with a TerminatedError. A SIGTERM during validation ends the run without a new checkpoint.

    Args:
        every_minutes: minutes after which the next optimizer step writes a checkpoint.
        every_steps: write one also at multiples of this number of optimizer steps; null for none.
    """

    def __init__(self, every_minutes: float = 10.0, every_steps: int | None = None) -> None:
        if not every_minutes > 0 or (every_steps is not None and every_steps < 1):
            raise ValueError(
                f"every_minutes must be positive, every_steps at least 1; got {every_minutes} and {every_steps}"
            )
        self.every_minutes, self.every_steps = every_minutes, every_steps
        self._resumed: dict[str, Any] | None = None
        self._written = time.monotonic()
        self._sigterm, self._agreement = Notice(), Agreement()
        self._validating, self._common = Agreement(), 0.0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Note SIGTERM from now on, and restore the random generators if the run goes on from a checkpoint."""
        self._sigterm.listen()  # Lightning restores the handler before it when it ends
        if self._resumed is not None:
            version, internal, gauss = self._resumed["python"]
            random.setstate((version, tuple(internal), gauss))
            torch.set_rng_state(self._resumed["torch"].cpu())
            numpy.random.set_state(tuple(self._resumed["numpy"]))
            of_devices = self._resumed.get("cuda", ())
            if torch.cuda.device_count() == len(of_devices):
                torch.cuda.set_rng_state_all([state.cpu() for state in of_devices])
            self._resumed = None
        self._written = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Write the checkpoint if it is due or a process got SIGTERM; in the latter case raise TerminatedError.

        Do nothing between optimizer steps, or after the last batch of an epoch.
        """
        if trainer.is_last_batch or (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        due = self.every_steps is not None and trainer.global_step % self.every_steps == 0
        late = time.monotonic() - self._written > 60 * self.every_minutes
        # Validation ends without a checkpoint, so ask for an earlier SIGTERM before it begins.
        is_last_chance = batch_idx + 1 + trainer.accumulate_grad_batches >= trainer.num_training_batches
        late, ends = self._agreement.of(trainer, late, self._sigterm.came, at_once=is_last_chance)
        if due or late or ends:
            self._write(trainer)
        if ends:
            raise _terminated(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write the checkpoint; raise TerminatedError if a vote, see `Agreement`, shows that a process got SIGTERM."""
        self._write(trainer)
        if any(self._agreement.of(trainer, self._sigterm.came)):
            raise _terminated(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Find the smallest number of validation batches of any process: up to it, they can vote on stopping."""
        self._common = min(map(float, trainer.num_val_batches), default=0.0)
        if trainer.world_size > 1:
            told = torch.tensor(self._common, device=trainer.strategy.root_device)
            self._common = cast(Tensor, trainer.strategy.reduce(told, reduce_op="min")).item()

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Raise TerminatedError on all processes if a vote, see `Agreement`, shows that one of them got SIGTERM."""
        if batch_idx < self._common and any(self._validating.of(trainer, self._sigterm.came)):
            raise _terminated(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the random generators of "python", "torch", "numpy", and "cuda" if there is a GPU."""
        states: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
        name, keys, *rest = numpy.random.get_state(legacy=True)
        states["numpy"] = (name, cast(Any, keys).tolist(), *rest)
        if torch.cuda.is_available():
            states["cuda"] = torch.cuda.get_rng_state_all()
        return states

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the random states of `state_dict`, which `on_train_start` restores."""
        self._resumed = state_dict

    def _write(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(Path(trainer.default_root_dir) / LAST, weights_only=False)
        self._written = time.monotonic()


def read_run(path: Path) -> dict[str, Any]:
    """Return the checkpoint in `path`, Lightning's dict, as `fit` writes it; CheckpointError if it is no such dict."""
    try:
        content = read_torch(path, mmap=False)
    except ValueError as error:
        raise CheckpointError(f"cannot go on from {path}: {error}") from error
    if not isinstance(content, dict) or not {"state_dict", "global_step"} <= content.keys():
        raise CheckpointError(f"cannot go on from {path}: fit did not write it; a run starts from the tensors of any "
                              "file by model.start.checkpoint")  # fmt: skip
    return content


def require_same_network(saved: Mapping[str, Tensor], here: Mapping[str, Tensor], path: object = None) -> None:
    """Raise a CheckpointError unless the state dicts of a checkpoint and of a module have equal names and shapes.

    The message names `path`, the file of the checkpoint, if it is known.
    """
    lacking, left = ([name for name in one if name not in other] for one, other in ((here, saved), (saved, here)))
    says = []
    if lacking:
        near = get_close_matches(lacking[0], left, n=1, cutoff=0.6)
        says.append(f"it lacks {some(lacking)}" + (f" (is {lacking[0]!r} its {near[0]!r}?)" if near else ""))
    if left:
        says.append(f"it has {some(left)}, which the network lacks")
    reshaped = [name for name in here if name in saved and saved[name].shape != here[name].shape]
    for name in reshaped[:1]:
        shapes = f"{name}: {tuple(saved[name].shape)} there, {tuple(here[name].shape)} here"
        says.append(f"{len(reshaped)} of its tensors are of other shapes ({shapes})")
    if says:
        raise CheckpointError(
            f"{path or 'the checkpoint'} is of another network: {'; '.join(says)}. Go on with the configuration that "
            "it was trained by, the config.yaml beside it, or start from it by model.start.checkpoint"
        )


def _terminated(trainer: Trainer) -> TerminatedError:
    """Return the error that ends this process; only that of the first process has a message."""
    path = Path(trainer.default_root_dir) / LAST
    if trainer.is_global_zero:
        rest = f"; go on by --ckpt_path last (from {path})" if path.exists() else ", of which nothing is kept"
        return TerminatedError(f"stopped by SIGTERM after {trainer.global_step} optimizer steps{rest}")
    environment = trainer._accelerator_connector.cluster_environment
    # Lightning kills the first process if one that it started ends with anything but 0.
    return TerminatedError(status=0) if isinstance(environment, LightningEnvironment) else TerminatedError()
