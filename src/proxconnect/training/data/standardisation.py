"""Give pictures zero mean and unit variance in each channel."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


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
