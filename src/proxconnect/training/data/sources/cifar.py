"""CIFAR-10 and CIFAR-100, in the folders that torchvision unpacks."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from proxconnect.training.data.errors import DatasetError, downloading, wrong_folder
from proxconnect.training.data.pictures import Splits, TensorPictures, checked
from proxconnect.training.data.sources.pickles import read_batch


@dataclass(frozen=True)
class Cifar:
    """Colour pictures, 32 x 32: 50000 to train, 10000 to test, or as many as the files hold.

    Source: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images.
    """

    name: str
    folder: str
    train: tuple[str, ...]
    test: str
    labels: str
    classes: int
    shown: str
    """The files to train on, as a message shows them."""

    def read(self, root: Path) -> Splits[TensorPictures]:
        """Read both splits from a `root` that holds the folder, or is it; DatasetError if a file is absent or wrong."""
        folder = self._find(root)
        parts = [self._pictures(folder / name) for name in self.train]
        train = TensorPictures(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))
        return Splits(train, self._pictures(folder / self.test), self.classes)

    def download(self, root: Path) -> None:
        """Fetch and unpack it into `root` unless it is there, by the address and checksum of torchvision."""
        import torchvision.datasets

        if (root / self.folder).is_dir() or root.name == self.folder:
            return
        theirs = getattr(torchvision.datasets, self.name.replace("-", ""))
        with downloading(self.name, root):
            torchvision.datasets.utils.download_and_extract_archive(
                theirs.url, root, filename=theirs.filename, md5=theirs.tgz_md5
            )

    def _find(self, root: Path) -> Path:
        inner = root if root.name == self.folder else root / self.folder
        missing = [file for file in (*self.train, self.test) if not (inner / file).is_file()]
        if not missing:
            return inner
        problem = f"{missing[0]} is missing in {self.folder}" if inner.is_dir() else f"it has no folder {self.folder}"
        layout = f"└── {self.folder}\n    ├── {self.shown}\n    └── {self.test}"
        advice = (
            f"Give the folder that holds {self.folder} as root (--data.root), have it fetched with download=True "
            f"(--data.download true), or unpack {self.name}'s Python version from "
            "https://www.cs.toronto.edu/~kriz/cifar.html"
        )
        raise wrong_folder(self.name, inner.parent, problem, layout, advice)

    def _pictures(self, path: Path) -> TensorPictures:
        batch = read_batch(path)
        images, labels = batch.get("data"), batch.get(self.labels)
        if not isinstance(images, Tensor) or images.dim() != 2 or images.shape[1] != 3072:
            found = f"of shape {tuple(images.shape)}" if isinstance(images, Tensor) else "no array"
            raise DatasetError(f"{path} is no batch of CIFAR: 'data' is {found}, expected bytes (N, 3072)")
        if not isinstance(labels, list) or not all(type(label) is int for label in labels):
            raise DatasetError(
                f"{path} is no batch of CIFAR: {self.labels!r} is no list of whole numbers; it has {sorted(batch)}"
            )
        shape = (3, 32, 32)
        return checked(images.reshape(-1, *shape), torch.tensor(labels), shape, self.classes, str(path))


CIFAR10 = Cifar(
    "CIFAR-10", "cifar-10-batches-py", tuple(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "labels",
    10, shown="data_batch_1 to data_batch_5",
)  # fmt: skip
CIFAR100 = Cifar("CIFAR-100", "cifar-100-python", ("train",), "test", "fine_labels", 100, shown="train")
