"""The base of the techniques: a Lightning callback that acts on the binary layers around each training step."""

from typing import Any

import lightning
import torch
from torch import nn

from proxconnect.layers import BinaryLayer


class Technique(lightning.Callback):
    """A callback that changes binary layers before or after each step.

    Subclasses override `before_step` or `after_step`. Both depend only on the network and the completed share of all
    steps, so that a run that was stopped goes on as if it had not been.
    """

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Act once before the first step of the run, as after each step, so that the first pass sees its effect."""
        if trainer.global_step == 0:
            self._after(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *batch: Any
    ) -> None:
        """Call `before_step` with the binary layers, in the order of the network."""
        with torch.no_grad():
            self.before_step(binary_layers(pl_module), progress(trainer))

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *batch: Any) -> None:
        """Call `after_step` with the binary layers, in the order of the network."""
        self._after(trainer, pl_module)

    def before_step(self, layers: list[BinaryLayer], share: float) -> None:
        """Act before a forward pass, without gradients; `share` of all steps is done, from 0 to below 1."""

    def after_step(self, layers: list[BinaryLayer], share: float) -> None:
        """Act after an optimizer step, without gradients; `share` of all steps is done, from 0 to 1."""

    def _after(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        with torch.no_grad():
            self.after_step(binary_layers(module), progress(trainer))


def binary_layers(module: nn.Module) -> list[BinaryLayer]:
    """Return the binary layers in `module`, in the order in which they were added."""
    return [layer for layer in module.modules() if isinstance(layer, BinaryLayer)]


def progress(trainer: lightning.Trainer) -> float:
    """Return the completed share of all optimizer steps of the run, from 0 to 1."""
    return trainer.global_step / trainer.estimated_stepping_batches
