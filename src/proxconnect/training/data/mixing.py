"""Mixup and CutMix of a batch with itself in reverse order."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from proxconnect._support import extras
from proxconnect.training.data.hashing import Purpose, seeded, seeds


@dataclass(frozen=True)
class MixupOptions:
    """How timm mixes batches; the defaults are those of DeiT (arXiv 2012.12877).

    Args:
        mixup: alpha of the beta distribution of Mixup's shares (arXiv 1710.09412); 0: no Mixup.
        cutmix: alpha of the beta distribution of CutMix's areas (arXiv 1905.04899); 0: no CutMix.
        prob: probability that a batch is mixed.
        switch_prob: probability of CutMix if both are on.
    """

    mixup: float = 0.8
    cutmix: float = 1.0
    prob: float = 1.0
    switch_prob: float = 0.5

    def __post_init__(self) -> None:
        if min(self.mixup, self.cutmix) < 0 or max(self.mixup, self.cutmix) == 0:
            raise ValueError(f"mixup={self.mixup} and cutmix={self.cutmix} must not be negative, nor both 0")
        if not (0 <= self.prob <= 1 and 0 <= self.switch_prob <= 1):
            raise ValueError(f"prob={self.prob} and switch_prob={self.switch_prob} must be in [0, 1]")


class Mixing:
    """Mixup and CutMix of batches, as a pure function of (seed, epoch, batch), the same on every rank."""

    def __init__(self, options: MixupOptions, classes: int, seed: int) -> None:
        self._seed = seed
        self._mixup: Any = extras.require("timm.data", "train").Mixup(
            options.mixup, options.cutmix, prob=options.prob, switch_prob=options.switch_prob, num_classes=classes,
            label_smoothing=0.0,  # the loss smooths
        )  # fmt: skip

    def __call__(self, images: Tensor, labels: Tensor, epoch: int, batch: int) -> tuple[Tensor, Tensor]:
        """Overwrite `images` (N, C, H, W), N even; return them and targets, float32 (N, classes), that sum to 1."""
        with seeded(int(seeds(Purpose.MIXING, self._seed, epoch, batch))):
            mixed: tuple[Tensor, Tensor] = self._mixup(images, labels)
        return mixed
