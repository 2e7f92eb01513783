"""The progress bar of a run."""

from typing import Any

import lightning
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme
from rich.progress import TimeRemainingColumn

SHOWN = {"train/loss": "loss", "loss": "loss", "mu": "μ", "val/accuracy": "acc"}
"""The logged values that are shown, by names short enough for 80 columns; a later "loss" replaces an earlier one."""


class Bar(RichProgressBar):
    """A bar with the loss, the mean μ, and the latest accuracy of what ships."""

    def __init__(self) -> None:
        super().__init__(theme=RichProgressBarTheme(metrics_format=".3g"))

    def configure_columns(self, trainer: lightning.Trainer) -> list[Any]:
        """Shorten Lightning's bar, and of the times keep the remaining one."""
        description, bar, batches, *_ = super().configure_columns(trainer)
        bar.bar_width = 16
        return [description, bar, batches, TimeRemainingColumn()]

    def get_metrics(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return the values of `SHOWN`."""
        logged = trainer.callback_metrics
        return {short: float(logged[name]) for name, short in SHOWN.items() if name in logged}
