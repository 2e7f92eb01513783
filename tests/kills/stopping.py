"""Callbacks that send a signal to their own process, and data that cannot be read for a while."""

import os
import signal
from pathlib import Path

import lightning
import torch

from training.pictures import GeneratedPictures


class Sends(lightning.Callback):
    """Sends SIGTERM once, when a hook is called the n-th time, on one rank.

    Args:
        hook: its name.
        number: from 1.
        rank: of several.
    """

    def __init__(self, hook: str = "on_train_batch_start", number: int = 2, rank: int = 0):
        self.left = number
        setattr(self, hook, lambda trainer, *_: self._count() if trainer.global_rank == rank else None)

    def _count(self):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


class Broken(GeneratedPictures):
    """Raises at the second batch of the second epoch, gives NaN or dies there, while the file `broken` is there.

    Args:
        broken: its path.
        kind: "raises", "nan" or "dies".
    """

    def __init__(self, broken: Path, kind: str = "raises", **options):
        super().__init__(**options)
        self.broken, self.kind = broken, kind

    def training_view(self, pictures):
        return View(super().training_view(pictures), self.broken, self.kind)


class View:
    def __init__(self, view, broken, kind):
        self.view, self.broken, self.kind = view, broken, kind
        self.shown = 0

    def __call__(self, rows, epoch):
        images = self.view(rows, epoch)
        self.shown += epoch == 1
        if epoch != 1 or self.shown != 2 or not self.broken.exists():
            return images
        if self.kind == "raises":
            raise OSError(f"picture {int(rows[0])} cannot be read")
        if self.kind == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        return images * torch.nan
