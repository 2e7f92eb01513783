"""The progress bar of a run."""

from typing import Any

import lightning
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme
from rich.progress import TimeRemainingColumn

SHOWN = {"train/loss": "loss", "loss": "loss", "mu": "μ", "val/accuracy": "acc"}
"""What is logged and shown, and its name there, short enough that all fit in 80 columns.

The loss of a batch, which is not logged in short epochs, stands before the last epoch's.
"""


class Bar(RichProgressBar):
    """Loss, mean μ and, once it is known, the latest accuracy of what ships."""

    def __init__(self) -> None:
        super().__init__(theme=RichProgressBarTheme(metrics_format=".3g"))

    def configure_columns(self, trainer: lightning.Trainer) -> list[Any]:
        """Lightning's, but a short bar and of the times what is left alone, so that there is room for the numbers."""
        description, bar, batches, *_ = super().configure_columns(trainer)
        bar.bar_width = 16
        return [description, bar, batches, TimeRemainingColumn()]

    def get_metrics(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """By their short names."""
        logged = trainer.callback_metrics
        return {short: float(logged[name]) for name, short in SHOWN.items() if name in logged}
