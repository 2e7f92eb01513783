"""A run's health: the meters of its binary layers in the logs, and in words what goes wrong."""

import math
from typing import Any

import lightning
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from proxconnect.inspection import Meters, diagnose
from proxconnect.layers import BinaryLayer
from proxconnect.training.module import Training


class DivergedError(ValueError):
    """The loss is NaN or infinite, of which no later step makes anything else."""


class Health(lightning.Callback):
    """After each epoch logs what `Meters` read of each binary layer, and warns of what `diagnose` sees in that.

    A loss that is not finite ends the run by a DivergedError with what to try, and no checkpoint is written after it.
    Under FSDP the numbers are of the first process's part.
    """

    def __init__(self) -> None:
        self._meters: Meters | None = None
        self._told: set[str] = set()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin to measure, where there are binary layers."""
        network = _training(pl_module).network
        if any(isinstance(module, BinaryLayer) for module in network.modules()):
            self._meters = Meters(network)
            self._meters.read()  # from here on signs flip

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the loss where it is logged, since to look costs a wait for the device."""
        if _training(pl_module).is_logged(batch_idx):
            _require_finite(pl_module)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Look before statistics are estimated, which would not be finite either."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            _require_finite(pl_module)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log, and warn once of each trouble."""
        _require_finite(pl_module)
        if self._meters is None:
            return
        numbers = {f"health/{name}": value for name, value in self._meters.read().items()}
        for logger in trainer.loggers:
            logger.log_metrics(numbers, step=trainer.global_step)
        progress = min(1.0, trainer.global_step / trainer.estimated_stepping_batches)
        for trouble in diagnose(self._meters.layers(), progress=progress):
            if str(trouble) not in self._told:
                self._told.add(str(trouble))
                rank_zero_warn(str(trouble), category=UserWarning)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write none after a loss that was not finite."""
        _require_finite(pl_module)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Leave nothing on the network."""
        if self._meters is not None:
            self._meters.remove()
            self._meters = None


def _require_finite(module: lightning.LightningModule) -> None:
    """DivergedError, on all processes, where a loss of this epoch was not finite on one of them."""
    loss = _training(module).mean_loss().item()
    if not math.isfinite(loss):
        [trouble, *_] = diagnose({}, loss=loss)
        raise DivergedError(str(trouble))


def _training(module: lightning.LightningModule) -> Training:
    if not isinstance(module, Training):
        raise TypeError(f"Health is for proxconnect.training.module.Training; got {type(module).__name__}")
    return module
