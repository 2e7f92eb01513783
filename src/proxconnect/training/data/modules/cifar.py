"""CIFAR-10 and CIFAR-100, in the folders that torchvision unpacks."""

from pathlib import Path

import torch
from torch import Tensor

from proxconnect.training.data.errors import DatasetError, downloading, wrong_folder
from proxconnect.training.data.modules.small import Downloadable
from proxconnect.training.data.pictures import Splits, TensorPictures, checked
from proxconnect.training.data.sources.pickles import read_batch


class _Cifar(Downloadable):
    """As many pictures as the files hold, from a root that holds the folder, or is it."""

    in_channels, published_size = 3, 32
    folder: str
    train_files: tuple[str, ...]
    test_file: str
    label_key: str

    def read(self) -> Splits[TensorPictures]:
        """Read both splits; DatasetError if a file is absent or wrong."""
        folder = self._find(self._root)
        parts = [self._pictures(folder / name) for name in self.train_files]
        train = TensorPictures(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))
        return Splits(train, self._pictures(folder / self.test_file), self.classes)

    def fetch(self, root: Path) -> None:
        """Fetch and unpack the archive unless the folder is there."""
        from torchvision import datasets

        if (root / self.folder).is_dir() or root.name == self.folder:
            return
        theirs = getattr(datasets, self.name.replace("-", ""))
        with downloading(self.name, root):
            datasets.utils.download_and_extract_archive(theirs.url, root, filename=theirs.filename, md5=theirs.tgz_md5)

    def _find(self, root: Path) -> Path:
        inner = root if root.name == self.folder else root / self.folder
        missing = [file for file in (*self.train_files, self.test_file) if not (inner / file).is_file()]
        if not missing:
            return inner
        problem = f"{missing[0]} is missing in {self.folder}" if inner.is_dir() else f"it has no folder {self.folder}"
        layout = "\n    ├── ".join((f"└── {self.folder}", *self.train_files)) + f"\n    └── {self.test_file}"
        advice = (
            f"Give the folder that holds {self.folder} as root (--data.root), have it fetched with download=True "
            f"(--data.download true), or unpack {self.name}'s Python version from "
            "https://www.cs.toronto.edu/~kriz/cifar.html"
        )
        raise wrong_folder(self.name, inner.parent, problem, layout, advice)

    def _pictures(self, path: Path) -> TensorPictures:
        batch = read_batch(path)
        images, labels = batch.get("data"), batch.get(self.label_key)
        if not isinstance(images, Tensor) or images.dim() != 2 or images.shape[1] != 3072:
            found = f"of shape {tuple(images.shape)}" if isinstance(images, Tensor) else "no array"
            raise DatasetError(f"{path} is no batch of CIFAR: 'data' is {found}, expected bytes (N, 3072)")
        if not isinstance(labels, list) or not all(type(label) is int for label in labels):
            raise DatasetError(
                f"{path} is no batch of CIFAR: {self.label_key!r} is no list of whole numbers; it has {sorted(batch)}"
            )
        shape = (3, 32, 32)
        return checked(images.reshape(-1, *shape), torch.tensor(labels), shape, self.classes, str(path))


class Cifar10(_Cifar):
    """CIFAR-10: 50000 colour pictures, 32 x 32, of 10 classes to train on, 10000 to test on.

    Source: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images.
    """

    name, classes, label_key = "CIFAR-10", 10, "labels"
    folder, test_file = "cifar-10-batches-py", "test_batch"
    train_files = tuple(f"data_batch_{number}" for number in range(1, 6))


class Cifar100(_Cifar):
    """CIFAR-100: 50000 colour pictures, 32 x 32, of 100 classes to train on, 10000 to test on."""

    name, classes, label_key = "CIFAR-100", 100, "fine_labels"
    folder, test_file = "cifar-100-python", "test"
    train_files = ("train",)
