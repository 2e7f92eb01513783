"""Pictures in folders of classes."""

import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from proxconnect._support import extras
from proxconnect.training.data.pictures import DatasetError, Pictures, Splits, decoded

SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")


class FolderPictures(Pictures):
    """Pictures on disk, a folder per class in alphabetical order; DatasetError if there are none or one is empty."""

    def __init__(self, folder: Path) -> None:
        datasets = extras.require("torchvision.datasets", "train")
        try:
            found = datasets.ImageFolder(folder, is_valid_file=lambda path: path.lower().endswith(SUFFIXES))
        except FileNotFoundError as error:
            raise DatasetError(f"{folder} needs a folder of pictures ({' '.join(SUFFIXES)}) for each class: {error} "
                               "(The validation pictures of ImageNet come in one folder; the script valprep.sh of "
                               "https://github.com/soumith/imagenetloader.torch moves them)") from error  # fmt: skip
        self.folder, self.classes = folder, found.classes
        # One array of bytes: worker processes would each copy a list of a million strings.
        self.names = np.array([os.fsencode(os.path.relpath(path, folder)) for path, _ in found.samples])
        self.labels = torch.tensor(found.targets)

    def open(self, index: int) -> Image.Image:
        """Return picture `index`, decoded, as an RGB PIL image; DatasetError if it is damaged."""
        path = self.folder / os.fsdecode(self.names[index])
        return decoded(path, str(path))


def splits_of(*folders: Path) -> Splits[Pictures]:
    """Return the pictures to train on, to test on and, if there is a third folder, to validate on.

    DatasetError unless all folders have the same classes.
    """
    train, test, *validation = map(FolderPictures, folders)
    for pictures in (test, *validation):
        other = sorted(set(train.classes) ^ set(pictures.classes))
        if other:
            raise DatasetError(
                f"{train.folder} and {pictures.folder} have different classes: {', '.join(other[:3])} "
                f"{'is' if len(other) == 1 else 'are'} in one alone ({len(other)} in all)"
            )
    return Splits(train, test, len(train.classes), *validation)
