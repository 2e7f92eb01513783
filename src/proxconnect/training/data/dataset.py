"""Data sets as plain tensors of floats, for loops without a loader."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from proxconnect._support import extras
from proxconnect.training.data.augmentation import Standardisation
from proxconnect.training.data.errors import DatasetError
from proxconnect.training.data.idx import FASHION_MNIST_ROOT, read_fashion_mnist
from proxconnect.training.data.pictures import Splits, TensorPictures


@dataclass(frozen=True)
class Dataset:
    """Images, float32 (N, 1, H, W) of zero mean and unit variance over the training set, and labels, int64 (N,)."""

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def load(name: str, root: str | Path | None = None) -> Dataset:
    """Return the data set "digits" or "fashion-mnist"; `root` is the folder with the files of the latter.

    DatasetError for another name or wrong files; MissingExtraError for digits without scikit-learn.
    """
    if name == "digits":
        return digits()
    if name == "fashion-mnist":
        return fashion_mnist(FASHION_MNIST_ROOT if root is None else Path(root))
    raise DatasetError(f"unknown data set {name!r}: known are 'digits' and 'fashion-mnist'")


def digits() -> Dataset:
    """Return 1797 handwritten digits of scikit-learn, 8 x 8: always the same 1347 to train and 450 to test."""
    return _standardised("digits", read_digits())


def fashion_mnist(root: Path = FASHION_MNIST_ROOT) -> Dataset:
    """Return 70000 articles of clothing, 28 x 28: 60000 to train, 10000 to test, from the four IDX files in `root`.

    DatasetError if one is absent, damaged or of other shapes or labels. Source: Xiao 2017 (arXiv 1708.07747).
    """
    return _standardised("fashion-mnist", read_fashion_mnist(root))


def _standardised(name: str, splits: Splits[TensorPictures]) -> Dataset:
    standardise = Standardisation.of(splits.train.images)
    train, test = standardise(splits.train.images), standardise(splits.test.images)
    return Dataset(name, train, splits.train.labels, test, splits.test.labels)


def read_digits() -> Splits[TensorPictures]:
    """Return the digits of UCI's Optical Recognition of Handwritten Digits, ink from 0 to 240, split by class."""
    datasets = extras.require("sklearn.datasets", "demo")
    selection = extras.require("sklearn.model_selection", "demo")
    pixels, labels = (torch.from_numpy(part) for part in datasets.load_digits(return_X_y=True))
    images = (pixels * 15).to(torch.uint8).reshape(-1, 1, 8, 8)
    rows = selection.train_test_split(range(len(labels)), test_size=450, random_state=0, stratify=labels)
    train, test = (TensorPictures(images[part], labels[part].long()) for part in rows)
    return Splits(train, test, classes=10)
