"""Pictures of your own, in folders of classes or as data sets of your code."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from proxconnect._support.user_code import guarded, load
from proxconnect.training.data.loaders import select
from proxconnect.training.data.modules.folders import SUFFIXES, FolderPictures, splits_of
from proxconnect.training.data.modules.photos import Photos
from proxconnect.training.data.pictures import DatasetError, Pictures, Splits, wrong_folder

LAYOUT = f"""
├── cats                  a folder for each class
│   └── tom.jpg           pictures, of any name, that end in {" ".join(SUFFIXES)}
└── dogs
    └── ...
or, if you choose the pictures to test on,
├── train                 folders of classes
├── val                   the same classes; without test, val is the test set
└── test
"""


class ChosenPictures(Pictures):
    """The pictures of others with indices `rows`, int64 (N,)."""

    def __init__(self, pictures: Pictures, rows: Tensor) -> None:
        self.pictures, self.rows, self.labels = pictures, rows, pictures.labels[rows]

    def open(self, index: int) -> Image.Image:
        """Return picture `index` as those others open it."""
        return self.pictures.open(int(self.rows[index]))


class DatasetPictures(Pictures):
    """The pictures of `dataset`, which maps an index to a picture and its class; errors call it `name`.

    Labels are its attribute `targets` if it has one, else each item is read once.
    """

    def __init__(self, dataset: Any, name: str) -> None:
        self.dataset, self.name = dataset, name
        with guarded(f"reading the labels of {name}"):
            targets = getattr(dataset, "targets", None)
            labels = [self._item(index)[1] for index in range(len(dataset))] if targets is None else targets
            self.labels = torch.as_tensor(labels)
        if self.labels.shape != (len(dataset),) or not len(dataset) or self.labels.is_floating_point():
            kind = f"{str(self.labels.dtype).removeprefix('torch.')} {tuple(self.labels.shape)}"
            raise DatasetError(f"{name} needs whole numbers as classes, one for each of at least 1 picture; got {kind}")
        self.labels = self.labels.long()

    def open(self, index: int) -> Image.Image:
        """Return picture `index` as an RGB PIL image; DatasetError unless it is one, or uint8 of (C, H, W)."""
        picture, _ = self._item(index)
        if isinstance(picture, Tensor | np.ndarray):
            pixels = torch.as_tensor(picture)
            if pixels.dtype == torch.uint8 and pixels.ndim == 3 and len(pixels) in (1, 3):
                picture = Image.fromarray(pixels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy())
        if not isinstance(picture, Image.Image):
            raise DatasetError(
                f"{self.name}[{index}] gives {_kind(picture)}; expected a PIL image or uint8 (C, H, W) of 1 or 3 "
                "channels, without a transform to floats: the data module crops, augments and standardises"
            )
        return picture.convert("RGB")

    def _item(self, index: int) -> tuple[Any, Any]:
        item = self.dataset[index]
        if not isinstance(item, Sequence) or len(item) != 2:
            raise DatasetError(f"{self.name}[{index}] is {_kind(item)}; expected a pair of a picture and its class")
        return item[0], item[1]


class Own(Photos):
    """The base class of data modules of your own pictures.

    Args:
        test_share: the share of all pictures that are the test set, by class, if the data has none; `split_seed`
            decides which.
        kwargs: as of Photos.
    """

    def __init__(self, test_share: float = 0.2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 < test_share < 1:
            raise ValueError(f"test_share={test_share} must be between 0 and 1")
        self.test_share = test_share

    def parted(self, pictures: Pictures, classes: int) -> Splits[Pictures]:
        """Divide pictures of `classes` classes into those to train on and to test on; DatasetError if none are left."""
        count = max(1, round(self.test_share * len(pictures.labels)))
        train, test = select(pictures.labels, count, None, self.split_seed)
        return Splits(ChosenPictures(pictures, train), ChosenPictures(pictures, test), classes)


class PictureFolder(Own):
    """Data module of pictures of your own in `root`: a folder for each class, or folders train and test of such.

    Beside both, a folder val holds the pictures to validate on. Without test, val is the test set.
    """

    name = "pictures"

    def read(self) -> Splits[Pictures]:
        """Return the pictures by use; DatasetError if `root` has no folders of classes, or val beside `validation`."""
        root = self._root
        inner = sorted(folder.name for folder in root.iterdir() if folder.is_dir()) if root.is_dir() else []
        if "train" in inner:
            others = [root / name for name in ("test", "val") if name in inner]
            if not others:
                raise self._wrong("it has a folder train, but no val or test")
            if len(others) == 2 and self.validation:
                raise DatasetError(f"{others[1]} has the pictures to validate on: leave out --data.validation")
            return splits_of(root / "train", *others)
        if len(inner) < 2:
            raise self._wrong("it has fewer than two folders of classes")
        pictures = FolderPictures(root)
        return self.parted(pictures, len(pictures.classes))

    def _wrong(self, problem: str) -> DatasetError:
        return wrong_folder("pictures", self._root, problem, LAYOUT, "Give the folder as root (--data.root).")


class TorchDatasets(Own):
    """Data module of your own data sets of torch, as those of torchvision without transforms.

    A data set has a length and maps an index to a pair of a picture, PIL or uint8 (C, H, W), and its class, from 0.

    Args:
        datasets: MODULE:CALLABLE, called without arguments; it returns a data set, or two, to train on and to test on.
        kwargs: as of Own.
    """

    name = "data sets"

    def __init__(self, datasets: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.datasets = datasets

    def read(self) -> Splits[Pictures]:
        """Return the pictures to train on and to test on; LoadError or DatasetError if there are none."""
        make = load(self.datasets)
        with guarded(f"calling {self.datasets!r}"):
            made = make()
        parts = tuple(made) if isinstance(made, tuple | list) else (made,)
        if not 1 <= len(parts) <= 2 or not all(
            hasattr(part, "__getitem__") and hasattr(part, "__len__") for part in parts
        ):
            raise DatasetError(f"{self.datasets} returned {_kind(made)}; expected a data set with a length, or two")
        pictures = [DatasetPictures(part, self.datasets) for part in parts]
        classes = 1 + int(max(part.labels.max() for part in pictures))
        lowest = int(min(part.labels.min() for part in pictures))
        if lowest < 0 or classes < 2:
            raise DatasetError(f"{self.datasets} has classes from {lowest} to {classes - 1}; expected 0 to at least 1")
        return self.parted(pictures[0], classes) if len(parts) == 1 else Splits(pictures[0], pictures[1], classes)


def _kind(value: Any) -> str:
    if isinstance(value, Tensor | np.ndarray):
        return f"{type(value).__name__} of {str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return type(value).__name__
