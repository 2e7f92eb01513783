"""Pictures in memory, standardised, flipped, shifted and mixed a whole batch at a time."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from proxconnect._support import extras
from proxconnect.training.data.hashing import Purpose, seeded, seeds, uniform


@dataclass(frozen=True)
class Standardisation:
    """Mean and standard deviation of each channel, for pixels from 0 to 255."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def of(cls, images: Tensor) -> "Standardisation":
        """Return those of all pixels of uint8 `images` (N, C, H, W), exact: by counting the 256 values."""
        values = torch.arange(256, dtype=torch.float64)
        means, deviations = [], []
        for channel in images.unbind(1):
            counts = torch.bincount(channel.flatten(), minlength=256).double()
            mean = (counts @ values) / counts.sum()
            means.append(mean.item())
            deviations.append(((counts @ (values - mean).square()) / (counts.sum() - 1)).sqrt().item())
        return cls(tuple(means), tuple(deviation or 1.0 for deviation in deviations))

    @property
    def of_full_brightness(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation in units of 255, as libraries take them."""
        return tuple(mean / 255 for mean in self.mean), tuple(deviation / 255 for deviation in self.deviation)

    def __call__(self, images: Tensor) -> Tensor:
        """Return uint8 `images` (N, C, H, W) as float32, shifted and scaled, rounded once from float64."""
        first = 256 * torch.arange(len(self.mean), dtype=torch.int32).reshape(-1, 1, 1)
        return self._table.index_select(0, (images.int() + first).flatten()).reshape(images.shape)

    @cached_property
    def _table(self) -> Tensor:
        """The results for the 256 values, channel after channel: a lookup is faster than float64."""
        mean, deviation = (torch.tensor(part, dtype=torch.float64).unsqueeze(1) for part in (self.mean, self.deviation))
        return ((torch.arange(256, dtype=torch.float64) - mean) / deviation).float().flatten()


def plain(images: Tensor, standardise: Standardisation, rows: Tensor, epoch: int) -> Tensor:
    """Return the pictures `rows` of `images`, uint8 (N, C, H, W), as float32, the same in every epoch."""
    return standardise(images.index_select(0, rows))


def flipped_and_cropped(
    images: Tensor, standardise: Standardisation, flip: bool, crop: int, seed: int, rows: Tensor, epoch: int
) -> Tensor:
    """Return `plain` pictures, mirrored left to right half of the time and shifted by up to `crop` pixels.

    Both are pure functions of (seed, epoch, picture). With `crop=4` as in section 4.2 of He 2015, arXiv 1512.03385.
    """
    chance = uniform(Purpose.FLIP_AND_CROP, seed, epoch, rows.unsqueeze(1), torch.arange(3)).unbind(1)
    mirrored = chance[0] < 0.5 if flip else torch.zeros(len(rows), dtype=torch.bool)
    down, right = ((draw * (2 * crop + 1)).long() for draw in chance[1:])
    return standardise(windows(images.index_select(0, rows), crop, down, right, mirrored))


def windows(images: Tensor, border: int, down: Tensor, right: Tensor, mirrored: Tensor) -> Tensor:
    """Pad `images` (N, C, H, W) with a border of zeros, and take from each the window at (down, right), then mirrored.

    `down` and `right`, int64 (N,), are from 0 to 2 * border; `mirrored`, bool (N,), selects the flipped pictures.
    """
    count, channels, height, width = images.shape
    bordered = functional.pad(images, (border, border, border, border))
    columns = torch.arange(width).expand(count, -1)
    columns = torch.where(mirrored.unsqueeze(1), columns.flip(1), columns) + right.unsqueeze(1)
    lines = torch.arange(height) + down.unsqueeze(1)
    places = lines.unsqueeze(2) * bordered.shape[3] + columns.unsqueeze(1)
    places = places.reshape(count, 1, -1).expand(-1, channels, -1)
    return bordered.flatten(2).gather(2, places).reshape(images.shape)


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
    """Mixup and CutMix of a batch with itself in reverse, a pure function of (seed, epoch, batch) on every rank."""

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
