"""ImageNet, as folders of classes or as parquet shards."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from proxconnect.training.data.errors import DatasetError, wrong_folder
from proxconnect.training.data.pictures import Pictures, Splits
from proxconnect.training.data.sources.decoding import decoded
from proxconnect.training.data.sources.parquet import read_parquet

if TYPE_CHECKING:
    from PIL import Image

LAYOUT = """
├── train
│   ├── n01440764                      a folder for each class
│   │   └── n01440764_10026.JPEG       pictures, of any name
│   └── ...
└── val
    ├── n01440764                      the same classes
    └── ...
or, as Hugging Face has it,
└── data
    ├── train-00000-of-00294.parquet   columns image {bytes, path} and label
    └── validation-00000-of-00014.parquet
"""
ADVICE = (
    "Give the folder as root (--data.root). ImageNet is not fetched, since its terms must be accepted: see "
    "https://image-net.org/download.php or https://huggingface.co/datasets/ILSVRC/imagenet-1k"
)
SUFFIXES = (b".jpeg", b".jpg", b".png", b".webp")


@dataclass(frozen=True, eq=False)
class FolderPictures(Pictures):
    """The files `names` in the folders of their classes.

    `names` is one array of bytes: worker processes would each copy a list of a million strings.
    """

    folder: Path
    classes: tuple[str, ...]
    names: np.ndarray[Any, np.dtype[np.bytes_]]
    labels: Tensor

    def open(self, index: int) -> "Image.Image":
        """Decode picture `index`, RGB."""
        path = self.folder / self.classes[int(self.labels[index])] / os.fsdecode(self.names[index])
        return decoded(path, str(path))


def read_imagenet(root: Path) -> Splits[Pictures]:
    """Read pictures of any size in any number of classes, from folders or parquet shards in `root`.

    The validation pictures are the test split. DatasetError if `root` holds neither layout, or only a part of one.
    Source: Russakovsky et al. 2015 (arXiv 1409.0575).
    """
    for shards in (root, root / "data"):
        if any(shards.glob("train-*.parquet")):
            return read_parquet(shards)
    missing = [name for name in ("train", "val") if not (root / name).is_dir()]
    if missing:
        problem = f"it has neither a folder {missing[0]} nor files train-*.parquet"
        raise wrong_folder("ImageNet", root, problem, LAYOUT, ADVICE)
    train, test = root / "train", root / "val"
    classes = _classes(train)
    other = set(classes) ^ set(_classes(test))
    if other:
        raise DatasetError(
            f"{train} and {test} have different classes: {', '.join(sorted(other)[:3])} "
            f"{'is' if len(other) == 1 else 'are'} in one alone ({len(other)} in all)"
        )
    return Splits(_folder_pictures(train, classes), _folder_pictures(test, classes), len(classes))


def _classes(folder: Path) -> tuple[str, ...]:
    classes = tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()))
    if not classes:
        raise DatasetError(
            f"{folder} has no folder in it: expected one for each class, in which its pictures lie. "
            "(The validation pictures of ImageNet come in one folder; the script valprep.sh of "
            "https://github.com/soumith/imagenetloader.torch moves them)"
        )
    return classes


def _folder_pictures(folder: Path, classes: tuple[str, ...]) -> FolderPictures:
    """List the pictures of each class in the order of their names."""
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
