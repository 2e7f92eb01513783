"""CIFAR-10 and CIFAR-100, as the folders that torchvision unpacks."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from proxconnect.training.data.errors import DatasetError, wrong_folder
from proxconnect.training.data.pictures import Splits, TensorPictures, checked
from proxconnect.training.data.sources.download import downloading
from proxconnect.training.data.sources.pickles import read_batch

CIFAR10_FOLDER, CIFAR100_FOLDER = "cifar-10-batches-py", "cifar-100-python"
CIFAR10_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))

CIFAR10_LAYOUT = f"""
└── {CIFAR10_FOLDER}
    ├── data_batch_1 to data_batch_5
    └── test_batch
"""
CIFAR100_LAYOUT = f"""
└── {CIFAR100_FOLDER}
    ├── train
    └── test
"""


def read_cifar10(root: Path) -> Splits[TensorPictures]:
    """60000 colour pictures, 32 x 32, of 10 classes: 50000 to train in five files, 10000 to test.

    `root` holds the folder cifar-10-batches-py, or is it. How many there are is not checked. DatasetError where a file
    is absent, damaged or of other shapes or labels. Source: Krizhevsky 2009, Learning Multiple Layers of Features from
    Tiny Images.
    """
    folder = _folder("CIFAR-10", root, CIFAR10_FOLDER, (*CIFAR10_TRAIN, "test_batch"), CIFAR10_LAYOUT)
    parts = [_pictures(folder / name, "labels", 10) for name in CIFAR10_TRAIN]
    train = TensorPictures(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))
    return Splits(train, _pictures(folder / "test_batch", "labels", 10), classes=10)


def read_cifar100(root: Path) -> Splits[TensorPictures]:
    """60000 colour pictures, 32 x 32, of 100 classes: 50000 to train, 10000 to test; else as `read_cifar10`."""
    folder = _folder("CIFAR-100", root, CIFAR100_FOLDER, ("train", "test"), CIFAR100_LAYOUT)
    train, test = (_pictures(folder / name, "fine_labels", 100) for name in ("train", "test"))
    return Splits(train, test, classes=100)


def download_cifar10(root: Path) -> None:
    """Fetch and unpack CIFAR-10 into `root` unless it is there, by the address and checksum that torchvision knows."""
    from torchvision.datasets import CIFAR10

    _download("CIFAR-10", root, CIFAR10, CIFAR10_FOLDER)


def download_cifar100(root: Path) -> None:
    """Fetch and unpack CIFAR-100 into `root` unless it is there, by the address and checksum that torchvision knows."""
    from torchvision.datasets import CIFAR100

    _download("CIFAR-100", root, CIFAR100, CIFAR100_FOLDER)


def _download(name: str, root: Path, torchvision_class: Any, folder: str) -> None:
    from torchvision.datasets.utils import download_and_extract_archive

    if (root / folder).is_dir() or root.name == folder:
        return
    with downloading(name, root):
        archive, md5 = torchvision_class.filename, torchvision_class.tgz_md5
        download_and_extract_archive(torchvision_class.url, root, filename=archive, md5=md5)


def _folder(name: str, root: Path, folder: str, files: tuple[str, ...], layout: str) -> Path:
    """The folder that holds all of `files`: `root / folder`, or `root` itself where that is called so."""
    inner = root if root.name == folder else root / folder
    missing = [file for file in files if not (inner / file).is_file()]
    if not missing:
        return inner
    problem = f"{missing[0]} is missing in {folder}" if inner.is_dir() else f"it has no folder {folder}"
    advice = (
        f"Give the folder that holds {folder} as root (--data.root), have it fetched with download=True "
        f"(--data.download true), or unpack {name}'s Python version from https://www.cs.toronto.edu/~kriz/cifar.html"
    )
    raise wrong_folder(name, inner.parent, problem, layout, advice)


def _pictures(path: Path, key: str, classes: int) -> TensorPictures:
    batch = read_batch(path)
    images, labels = batch.get("data"), batch.get(key)
    if not isinstance(images, Tensor) or images.dim() != 2 or images.shape[1] != 3072:
        raise DatasetError(f"{path} is no batch of CIFAR: 'data' is {_shape(images)}, expected bytes (N, 3072)")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise DatasetError(f"{path} is no batch of CIFAR: {key!r} is no list of whole numbers; it has {sorted(batch)}")
    return checked(images.reshape(-1, 3, 32, 32), torch.tensor(labels), (3, 32, 32), classes, str(path))


def _shape(value: object) -> str:
    return f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else "no array"
