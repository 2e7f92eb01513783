"""ImageNet, as folders of classes or as parquet shards, with pictures that are opened one by one."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from proxconnect._support import extras
from proxconnect.training.data.errors import DatasetError, wrong_folder
from proxconnect.training.data.loaders import View
from proxconnect.training.data.modules.base import ImageData
from proxconnect.training.data.pictures import Pictures, Splits, decoded
from proxconnect.training.data.sources.parquet import read_parquet
from proxconnect.training.data.transforms import TransformOptions, augmented, opened

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
UNSORTED = (
    "(The validation pictures of ImageNet come in one folder; the script valprep.sh of "
    "https://github.com/soumith/imagenetloader.torch moves them)"
)
SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")


MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's training pictures, in units of full brightness, as in torchvision and timm."""

RESNETS = TransformOptions()


class FolderPictures(Pictures):
    """The pictures in a folder for each class; classes and pictures are in the order of their names."""

    def __init__(self, folder: Path) -> None:
        datasets = extras.require("torchvision.datasets", "train")
        try:
            found = datasets.ImageFolder(folder, is_valid_file=lambda path: path.lower().endswith(SUFFIXES))
        except FileNotFoundError as error:
            raise DatasetError(f"{folder} needs a folder of pictures ({' '.join(SUFFIXES)}) for each class: {error} "
                               f"{UNSORTED}") from error  # fmt: skip
        self.folder, self.classes = folder, found.classes
        # One array of bytes: worker processes would each copy a list of a million strings.
        self.names = np.array([os.fsencode(os.path.relpath(path, folder)) for path, _ in found.samples])
        self.labels = torch.tensor(found.targets)

    def open(self, index: int) -> Image.Image:
        """Decode picture `index`, RGB."""
        path = self.folder / os.fsdecode(self.names[index])
        return decoded(path, str(path))


class ImageNet(ImageData[Pictures]):
    """ImageNet, or pictures in the same layout: folders of classes, or parquet shards of Hugging Face.

    Its validation pictures are the test set. Source: Russakovsky et al. 2015 (arXiv 1409.0575).

    Args:
        transform: how pictures are cropped and augmented.
        kwargs: as of ImageData.
    """

    name, in_channels = "imagenet", 3

    def __init__(self, transform: TransformOptions = RESNETS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.transform = transform

    @property
    def classes(self) -> int:
        """The number of classes in `root`."""
        return self._splits.classes

    @property
    def image_size(self) -> int:
        """Height and width of the network's input, in pixels."""
        return self.transform.image_size

    def read(self) -> Splits[Pictures]:
        """Read both splits; DatasetError if `root` holds neither layout, or only a part of one."""
        root = self._root
        for shards in (root, root / "data"):
            if any(shards.glob("train-*.parquet")):
                return read_parquet(shards)
        missing = [name for name in ("train", "val") if not (root / name).is_dir()]
        if missing:
            problem = f"it has neither a folder {missing[0]} nor files train-*.parquet"
            raise wrong_folder("ImageNet", root, problem, LAYOUT, ADVICE)
        train, test = FolderPictures(root / "train"), FolderPictures(root / "val")
        other = sorted(set(train.classes) ^ set(test.classes))
        if other:
            raise DatasetError(
                f"{train.folder} and {test.folder} have different classes: {', '.join(other[:3])} "
                f"{'is' if len(other) == 1 else 'are'} in one alone ({len(other)} in all)"
            )
        return Splits(train, test, len(train.classes))

    def plain_view(self, pictures: Pictures) -> View:
        """Resize each picture and take its middle."""
        return partial(opened, pictures, self.transform.for_evaluation(MEAN, DEVIATION))

    def training_view(self, pictures: Pictures) -> View:
        """Crop and augment at random."""
        return partial(augmented, pictures, self.transform.for_training(MEAN, DEVIATION), self.seed)
