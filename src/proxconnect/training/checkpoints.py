"""Checkpoints from which a run that was killed at any moment goes on as if it had not been."""

import random
import time
from pathlib import Path
from typing import Any, cast

import lightning
import numpy
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from proxconnect._support import atomic
from proxconnect._support.termination import Notice, TerminatedError
from proxconnect.deploy.checkpoints import CheckpointError
from proxconnect.deploy.checkpoints.reading import read_torch
from proxconnect.training.agreement import Agreement

LAST = "last.ckpt"


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all: where the disk is full, the last one stays. Reads no code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write aside, flush, rename; OSError where that fails, with the file that was there untouched."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(path) as temporary, temporary.open("wb") as file:
            try:
                torch.save(checkpoint, file)  # a file of Python's, whose errors say what is wrong, as C++'s do not
            except RuntimeError as error:  # torch's, on closing what is not whole
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """What the file holds, on the CPU, without running any code of it.

        CheckpointError where it is damaged, no file of `fit`, or holds more than tensors and plain values.
        """
        return read_run(Path(path))


class LastCheckpoint(Checkpoint):
    """Keeps `last.ckpt` in the folder of the run.

    It holds the network with its latents and μ, the optimizer with its count of μ's steps, the schedule of the learning
    rate, where in the data the run stands, as the data module says, and the state of every generator of random numbers.
    It is written at the end of each epoch, and within one as often as asked. After a SIGTERM, to whichever process, it
    is written after the optimizer step under way, and the run ends by a TerminatedError that says how to go on.
    Validation ends at its next batch, without a checkpoint of its own.

    Args:
        every_minutes: the longest time between two of them.
        every_steps: optimizer steps between two of them; null for no such limit.
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

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Give the generators the states of the checkpoint, after all that a start draws from them; wait for SIGTERM.

        Lightning gives the handler that was there before back when it ends.
        """
        self._sigterm.take()
        if self._resumed is not None:
            _restore(self._resumed)
            self._resumed = None
        self._written = time.monotonic()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write where it is time, but for the last batch, whose epoch's end follows."""
        if trainer.is_last_batch or (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        due = self.every_steps is not None and trainer.global_step % self.every_steps == 0
        late = time.monotonic() - self._written > 60 * self.every_minutes
        # Validation ends without a checkpoint, so a SIGTERM that came before must be known before.
        is_last_chance = batch_idx + 1 + trainer.accumulate_grad_batches >= trainer.num_training_batches
        late, ends = self._agreement.of(trainer, late, self._sigterm.came, at_once=is_last_chance)
        if due or late or ends:
            self._write(trainer)
        if ends:
            raise _terminated(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write."""
        self._write(trainer)
        if any(self._agreement.of(trainer, self._sigterm.came)):
            raise _terminated(trainer)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Let all processes know how many batches the one with the fewest has, in which they can ask each other."""
        self._common = min(map(float, trainer.num_val_batches), default=0.0)
        if trainer.world_size > 1:
            told = torch.tensor(self._common, device=trainer.strategy.root_device)
            self._common = cast(Tensor, trainer.strategy.reduce(told, reduce_op="min")).item()

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Leave validation after SIGTERM, all processes together."""
        if batch_idx < self._common and any(self._validating.of(trainer, self._sigterm.came)):
            raise _terminated(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The states of the generators, as tensors and plain values."""
        return _states()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep it for the start of training."""
        self._resumed = state_dict

    def _write(self, trainer: lightning.Trainer) -> None:
        trainer.save_checkpoint(Path(trainer.default_root_dir) / LAST, weights_only=False)
        self._written = time.monotonic()


def read_run(path: Path) -> dict[str, Any]:
    """The checkpoint of `fit` at `path`; CheckpointError where it is none."""
    try:
        content = read_torch(path, mmap=False)
    except ValueError as error:
        raise CheckpointError(f"cannot go on from {path}: {error}") from error
    if not isinstance(content, dict) or not {"state_dict", "global_step"} <= content.keys():
        raise CheckpointError(f"cannot go on from {path}: fit did not write it; a run starts from the tensors of any "
                              "file by model.start.checkpoint")  # fmt: skip
    return content


def _terminated(trainer: lightning.Trainer) -> TerminatedError:
    """The end of this process: with a message on the first alone.

    The others, where Lightning started them, end with 0, since for anything else it kills the first.
    """
    path = Path(trainer.default_root_dir) / LAST
    if trainer.is_global_zero:
        step = trainer.global_step
        return TerminatedError(
            f"stopped by SIGTERM after {step} optimizer steps; go on by --ckpt_path last (from {path})"
            if path.exists() else f"stopped by SIGTERM after {step} optimizer steps, of which nothing is kept"
        )  # fmt: skip
    environment = trainer._accelerator_connector.cluster_environment
    return TerminatedError(status=0) if isinstance(environment, LightningEnvironment) else TerminatedError()


def _states() -> dict[str, Any]:
    states: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    name, keys, *rest = numpy.random.get_state(legacy=True)
    states["numpy"] = (name, cast(Any, keys).tolist(), *rest)
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def _restore(states: dict[str, Any]) -> None:
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    torch.set_rng_state(states["torch"].cpu())
    numpy.random.set_state(tuple(states["numpy"]))
    if "cuda" in states and torch.cuda.device_count() == len(states["cuda"]):
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
