"""ImageNet, as folders of classes or as parquet shards."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from proxconnect._support import extras
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
UNSORTED = (
    "(The validation pictures of ImageNet come in one folder; the script valprep.sh of "
    "https://github.com/soumith/imagenetloader.torch moves them)"
)
SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")


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

    def open(self, index: int) -> "Image.Image":
        """Decode picture `index`, RGB."""
        path = self.folder / os.fsdecode(self.names[index])
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
    train, test = FolderPictures(root / "train"), FolderPictures(root / "val")
    other = sorted(set(train.classes) ^ set(test.classes))
    if other:
        raise DatasetError(
            f"{train.folder} and {test.folder} have different classes: {', '.join(other[:3])} "
            f"{'is' if len(other) == 1 else 'are'} in one alone ({len(other)} in all)"
        )
    return Splits(train, test, len(train.classes))
