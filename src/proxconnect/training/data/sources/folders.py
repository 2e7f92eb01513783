"""Pictures in a folder for each class."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from proxconnect.training.data.errors import DatasetError
from proxconnect.training.data.pictures import Pictures, Splits

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (b".jpeg", b".jpg", b".png", b".webp")


@dataclass(frozen=True, eq=False)
class FolderPictures:
    """The files `names` in the folders of their classes.

    `names` is one array of bytes: a list of a million strings would be copied into each worker process, as their counts
    of references change.
    """

    folder: Path
    classes: tuple[str, ...]
    names: np.ndarray[Any, np.dtype[np.bytes_]]
    labels: Tensor

    @property
    def blocks(self) -> None:
        """None: each file is read by itself."""

    def open(self, index: int) -> "Image.Image":
        """Picture `index`, RGB."""
        from proxconnect.training.data.sources.decoding import decoded

        path = self.folder / self.classes[int(self.labels[index])] / os.fsdecode(self.names[index])
        return decoded(path, str(path))


def read_folders(root: Path) -> Splits[Pictures]:
    """`root/train/CLASS/PICTURE` and `root/val/CLASS/PICTURE`: classes and pictures in the order of their names.

    DatasetError where the classes of the two are not the same, or a class has no picture.
    """
    classes = _classes(root / "train")
    other = set(classes) ^ set(_classes(root / "val"))
    if other:
        raise DatasetError(
            f"{root / 'train'} and {root / 'val'} have different classes: {', '.join(sorted(other)[:3])} "
            f"{'is' if len(other) == 1 else 'are'} in one alone ({len(other)} in all)"
        )
    return Splits(_read(root / "train", classes), _read(root / "val", classes), len(classes))


def _classes(folder: Path) -> tuple[str, ...]:
    classes = tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()))
    if not classes:
        raise DatasetError(
            f"{folder} has no folder in it: expected one for each class, in which its pictures lie. "
            "(The validation pictures of ImageNet come in one folder; the script valprep.sh of "
            "https://github.com/soumith/imagenetloader.torch moves them)"
        )
    return classes


def _read(folder: Path, classes: tuple[str, ...]) -> FolderPictures:
    names: list[bytes] = []
    counts = []
    for name in classes:
        inside = sorted(file for file in os.listdir(os.fsencode(folder / name)) if file.lower().endswith(SUFFIXES))
        if not inside:
            raise DatasetError(f"{folder / name} holds no picture ({b' '.join(SUFFIXES).decode()}): remove or fill it")
        names += inside
        counts.append(len(inside))
    labels = torch.arange(len(classes)).repeat_interleave(torch.tensor(counts))
    return FolderPictures(folder, classes, np.array(names), labels)
