"""Pictures with their labels, in memory or as files."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from proxconnect.training.data.errors import DatasetError

if TYPE_CHECKING:
    from PIL import Image


class Pictures(Protocol):
    """Pictures that are opened one by one, their labels known."""

    @property
    def labels(self) -> Tensor:
        """Int64 (N,)."""

    @property
    def blocks(self) -> Tensor | None:
        """The number of the block of the disk in which each picture lies, int64 (N,); None: each lies by itself."""

    def open(self, index: int) -> "Image.Image":
        """The decoded picture `index`, RGB or grey."""


@dataclass(frozen=True, eq=False)
class TensorPictures:
    """Pictures in memory: `images` uint8 (N, C, H, W) of one or three channels, `labels` int64 (N,)."""

    images: Tensor
    labels: Tensor

    @property
    def blocks(self) -> None:
        """None: memory has no blocks."""

    def open(self, index: int) -> "Image.Image":
        """Picture `index` for transforms that take it as PIL has it."""
        from PIL import Image

        image = self.images[index]
        return Image.fromarray((image[0] if len(image) == 1 else image.permute(1, 2, 0)).numpy())


P = TypeVar("P", bound=Pictures, covariant=True)


@dataclass(frozen=True)
class Splits(Generic[P]):
    """A data set as it is published: what one trains on and what one tests on, labels 0 to `classes` - 1."""

    train: P
    test: P
    classes: int


def checked(images: Tensor, labels: Tensor, shape: tuple[int, ...], classes: int, where: str) -> TensorPictures:
    """Both as `TensorPictures`; DatasetError unless they are as many, at least one, of that shape and those labels."""
    if images.shape != (len(labels), *shape) or not len(labels):
        raise DatasetError(
            f"{where}: images {tuple(images.shape)} and labels {tuple(labels.shape)}, "
            f"expected {('N', *shape)} and ('N',) with one N"
        )
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= classes:
        raise DatasetError(f"{where}: labels from {lowest} to {highest}, expected 0 to {classes - 1}")
    return TensorPictures(images.reshape(len(labels), -1, *shape[-2:]), labels.to(torch.int64))
