"""Small pictures in memory, flipped and shifted a whole batch at a time."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from proxconnect.training.data.hashing import Purpose, uniform
from proxconnect.training.data.standardisation import Standardisation


@dataclass(frozen=True, eq=False)
class Plain:
    """A view of `images`, uint8 (N, C, H, W), standardised."""

    images: Tensor
    standardise: Standardisation

    def __call__(self, rows: Tensor, epoch: int) -> Tensor:
        """Return the pictures `rows` as float32, the same in every epoch."""
        return self.standardise(self.images.index_select(0, rows))


@dataclass(frozen=True, eq=False)
class FlippedAndCropped:
    """A view of `images`, uint8 (N, C, H, W): mirrored left to right half of the time, shifted by up to `crop` pixels.

    Both are pure functions of (seed, epoch, picture). Source: He et al. 2015 (arXiv 1512.03385), section 4.2, with
    `crop=4`.
    """

    images: Tensor
    standardise: Standardisation
    flip: bool
    crop: int
    seed: int

    def __call__(self, rows: Tensor, epoch: int) -> Tensor:
        """Return the pictures `rows` as float32, as they look in this epoch."""
        chance = uniform(Purpose.FLIP_AND_CROP, self.seed, epoch, rows.unsqueeze(1), torch.arange(3)).unbind(1)
        mirrored = chance[0] < 0.5 if self.flip else torch.zeros(len(rows), dtype=torch.bool)
        down, right = ((draw * (2 * self.crop + 1)).long() for draw in chance[1:])
        return self.standardise(windows(self.images.index_select(0, rows), self.crop, down, right, mirrored))


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
