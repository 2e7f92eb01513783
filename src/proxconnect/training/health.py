"""The health of a run: meters of its binary layers in the logs, and warnings in words."""

import math
from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from proxconnect.inspection import Meters, diagnose
from proxconnect.layers import BinaryLayer
from proxconnect.training.module import Training


class DivergedError(ValueError):
    """The error that ends a run whose mean loss over an epoch so far is NaN or infinite."""


class Health(Callback):
    """A callback that logs the `Meters` of each binary layer after each epoch, and warns of what `diagnose` finds.

    It ends a run whose loss is not finite. Under FSDP the numbers are of the first process's part of the weights.
    """

    def __init__(self) -> None:
        self._meters: Meters | None = None
        self._told: set[str] = set()

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Attach meters to the network if it has binary layers; TypeError if the module is no `Training`."""
        if not isinstance(pl_module, Training):
            raise TypeError(f"Health is for proxconnect.training.module.Training; got {type(pl_module).__name__}")
        if any(isinstance(module, BinaryLayer) for module in pl_module.network.modules()):
            self._meters = Meters(pl_module.network)
            self._meters.read()  # flips of signs count from here

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Raise DivergedError if the loss is not finite; check only after batches whose loss is logged."""
        if pl_module.is_logged(batch_idx):
            _require_finite(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Raise DivergedError if the loss of a training run is not finite, before batch norm is re-estimated."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            _require_finite(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Log the meters as "health/...", and warn of each problem that `diagnose` finds, once for each message.

        Raise DivergedError first if the loss is not finite. For a float network, nothing else is done.
        """
        _require_finite(pl_module)
        if self._meters is None:
            return
        numbers = {f"health/{name}": value for name, value in self._meters.read().items()}
        for logger in trainer.loggers:
            logger.log_metrics(numbers, step=trainer.global_step)
        progress = min(1.0, trainer.global_step / trainer.estimated_stepping_batches)
        for trouble in map(str, diagnose(self._meters.layers(), progress=progress)):
            if trouble not in self._told:
                self._told.add(trouble)
                rank_zero_warn(trouble, category=UserWarning)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Raise DivergedError if the loss is not finite, so that no checkpoint is written."""
        _require_finite(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Remove the meters from the network."""
        if self._meters is not None:
            self._meters.remove()
            self._meters = None


def _require_finite(module: Training) -> None:
    """Raise DivergedError on all processes if a loss of this epoch is not finite on one of them."""
    loss = module.mean_loss().item()
    if not math.isfinite(loss):
        [trouble, *_] = diagnose({}, loss=loss)
        raise DivergedError(str(trouble))
