"""Pictures with their labels, in memory or as files, and errors of files that are absent or wrong."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Generic, TypeVar

import torch
from PIL import Image
from torch import Tensor

from proxconnect._support.paths import require_regular


class DatasetError(ValueError):
    """The error for an unknown data set, absent or wrong files, or impossible counts; it says what is wrong."""


def wrong_folder(name: str, root: Path, problem: str, layout: str, advice: str) -> DatasetError:
    """Return the error that `root` does not hold data set `name`; its message also says what `root` holds."""
    tree = "\n".join(f"  {line}" for line in (str(root), *layout.strip().splitlines()))
    if root.is_dir():
        try:
            names = sorted(entry.name + "/" * entry.is_dir() for entry in root.iterdir())
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            found = ", ".join(names[:8]) + more or "nothing, the folder is empty"
        except OSError as error:
            found = f"a folder that cannot be read ({error.strerror or error})"
    else:
        found = "a file, not a folder" if root.exists() else "no such folder"
    return DatasetError(f"no {name} in {root}: {problem}\nexpected:\n{tree}\nfound: {found}\n{advice}")


@contextmanager
def downloading(name: str, root: Path) -> Iterator[None]:
    """Turn a failed download, write or checksum in the context into a DatasetError about data set `name`."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # torchvision reports a wrong checksum as RuntimeError
        raise DatasetError(f"{name} could not be fetched into {root}: {error}. Put its files there yourself") from error


FORMATS = ("JPEG", "PNG", "WEBP")
"""The formats that are decoded, recognised by content. Pillow would give others, as PostScript, to programs to run."""

MOST_PIXELS = 89_478_485  # Pillow only warns of larger pictures


class Pictures(ABC):
    """A base class for a set of N pictures: `open` decodes one of them, and `labels`, int64 (N,), are their classes."""

    labels: Tensor
    blocks: Tensor | None = None
    """The block of the disk in which each picture lies, int64 (N,); None if pictures are read one by one."""

    @abstractmethod
    def open(self, index: int) -> Image.Image:
        """Return picture `index`, decoded, as a PIL image, RGB or grey."""


@dataclass(frozen=True, eq=False)
class TensorPictures(Pictures):
    """Pictures in memory: `images`, uint8 (N, C, H, W) of one or three channels, and `labels`, int64 (N,)."""

    images: Tensor
    labels: Tensor

    def open(self, index: int) -> Image.Image:
        """Return picture `index` as a PIL image, RGB or grey."""
        image = self.images[index]
        return Image.fromarray((image[0] if len(image) == 1 else image.permute(1, 2, 0)).numpy())


P = TypeVar("P", bound=Pictures, covariant=True)


@dataclass(frozen=True)
class Splits(Generic[P]):
    """A published data set: pictures to train on and to test on, with labels 0 to `classes` - 1."""

    train: P
    test: P
    classes: int
    validation: P | None = None
    """The pictures to validate on, if the data set has some apart."""


def checked(images: Tensor, labels: Tensor, shape: tuple[int, ...], classes: int, where: str) -> TensorPictures:
    """Return `images`, uint8 (N, *shape), and `labels`, whole numbers (N,), as pictures of `shape` (H, W) or (C, H, W).

    DatasetError, whose message begins with `where`, if N is 0, shapes differ, or a label is not in 0 to `classes` - 1.
    """
    if images.shape != (len(labels), *shape) or not len(labels):
        raise DatasetError(
            f"{where}: images {tuple(images.shape)} and labels {tuple(labels.shape)}, "
            f"expected {('N', *shape)} and ('N',) with one N"
        )
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= classes:
        raise DatasetError(f"{where}: labels from {lowest} to {highest}, expected 0 to {classes - 1}")
    return TensorPictures(images.reshape(len(labels), -1, *shape[-2:]), labels.to(torch.int64))


def decoded(source: Path | IO[bytes], where: str) -> Image.Image:
    """Decode a JPEG, PNG or WebP picture as an RGB PIL image; DatasetError that begins with `where` if that fails."""
    try:
        if isinstance(source, Path):
            require_regular(source)
        with Image.open(source, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels, more than {MOST_PIXELS:,}")
            return image.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises any kind of error for a damaged picture
        reason = str(error) or type(error).__name__
        raise DatasetError(f"{where} is no picture or is damaged ({reason}): fetch it again, or remove it") from error
