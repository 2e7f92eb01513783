"""Data sets as plain tensors of floats, for loops that need no loader."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from proxconnect.training.data.errors import DatasetError
from proxconnect.training.data.pictures import Splits, TensorPictures
from proxconnect.training.data.sources.digits import read_digits
from proxconnect.training.data.sources.fashion_mnist import FASHION_MNIST_ROOT, read_fashion_mnist
from proxconnect.training.data.standardisation import Standardisation


@dataclass(frozen=True)
class Dataset:
    """Images, float32 (N, 1, H, W) of zero mean and unit variance over the training set, and labels, int64 (N,)."""

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def load(name: str, root: str | Path | None = None) -> Dataset:
    """The data set called "digits" or "fashion-mnist"; `root` is the folder of the latter's files.

    DatasetError for another name, and as `fashion_mnist`; MissingExtraError where digits are asked for without
    `pip install 'proxconnect[demo]'`.
    """
    if name == "digits":
        return digits()
    if name == "fashion-mnist":
        return fashion_mnist(FASHION_MNIST_ROOT if root is None else Path(root))
    raise DatasetError(f"unknown data set {name!r}: known are 'digits' and 'fashion-mnist'")


def digits() -> Dataset:
    """1797 handwritten digits, 8 x 8, embedded in scikit-learn: 1347 to train, 450 to test, split by class.

    The split is the same in every call. Source: UCI, Optical Recognition of Handwritten Digits.
    """
    return _standardised("digits", read_digits())


def fashion_mnist(root: Path = FASHION_MNIST_ROOT) -> Dataset:
    """70000 articles of clothing, 28 x 28: 60000 to train, 10000 to test, from the four IDX files in `root`.

    DatasetError where one is absent, damaged or of other shapes or labels. Source: Xiao 2017 (arXiv 1708.07747).
    """
    return _standardised("fashion-mnist", read_fashion_mnist(root))


def _standardised(name: str, splits: Splits[TensorPictures]) -> Dataset:
    standardise = Standardisation.of(splits.train.images)
    train, test = standardise(splits.train.images), standardise(splits.test.images)
    return Dataset(name, train, splits.train.labels, test, splits.test.labels)
