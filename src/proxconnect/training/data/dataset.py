"""Digits and Fashion-MNIST, as published and as plain tensors of floats for loops without a loader."""

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import torch
from torch import Tensor

from proxconnect._support import extras
from proxconnect._support.paths import folder_name, require_regular
from proxconnect.training.data.pictures import DatasetError, Splits, TensorPictures, checked, wrong_folder
from proxconnect.training.data.transforms import Standardisation

FASHION_MNIST_ROOT = Path("/usr/share/datasets/fashion-mnist")
"""Where the Debian package dataset-fashion-mnist puts the files."""

LAYOUT = """
├── train-images-idx3-ubyte     each plain or as .gz
├── train-labels-idx1-ubyte
├── t10k-images-idx3-ubyte
└── t10k-labels-idx1-ubyte
"""
ADVICE = (
    "Give their folder as root (--root of the demo, --data.root of fit), have fit fetch them with download=True "
    "(--data.download true), or on Debian run: apt install dataset-fashion-mnist"
)

_MOST_BYTES = 1 << 30


def read_fashion_mnist(root: Path) -> Splits[TensorPictures]:
    """Read Fashion-MNIST, uint8 (N, 1, 28, 28), from IDX files in `root`; DatasetError if one is absent or wrong."""
    train, test = (
        checked(
            read_idx(_find(root, f"{prefix}-images-idx3-ubyte")),
            read_idx(_find(root, f"{prefix}-labels-idx1-ubyte")),
            shape=(28, 28),
            classes=10,
            where=f"{root} does not hold Fashion-MNIST: {prefix}",
        )
        for prefix in ("train", "t10k")
    )
    return Splits(train, test, classes=10)


def read_idx(path: Path) -> Tensor:
    """Return the tensor in an IDX file, uint8, of the shape in its header. The file may be compressed by gzip.

    DatasetError unless it holds exactly the unsigned bytes that its one to four dimensions say, 1 to 2**30 of them.
    """
    try:
        require_regular(path)
        with path.open("rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if compressed else path.open("rb") as stream:
            return _parsed(cast(BinaryIO, stream), path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DatasetError(f"{path} is truncated or damaged ({error}): fetch it again") from error
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error


def _parsed(stream: BinaryIO, path: Path) -> Tensor:
    """Read two zero bytes, the type 8, the number of dimensions, the sizes, and the data."""
    start = stream.read(4)
    if start[:3] != b"\0\0\x08" or not 1 <= int.from_bytes(start[3:]) <= 4:
        raise DatasetError(
            f"{path} is no IDX file of unsigned bytes: it starts with {start.hex(' ') or 'nothing'}, "
            "expected 00 00 08 and the number of dimensions"
        )
    sizes = stream.read(4 * start[3])
    if len(sizes) < 4 * start[3]:
        raise DatasetError(f"{path} is truncated: its header alone takes {4 + 4 * start[3]} bytes")
    shape = struct.unpack(f">{start[3]}I", sizes)
    expected = math.prod(shape)
    content = stream.read(min(expected, _MOST_BYTES) + 1)  # a compressed file may go on without end
    if not 0 < expected <= _MOST_BYTES or len(content) != expected:
        fault = "truncated" if len(content) < expected else "damaged"
        raise DatasetError(f"{path} is {fault}: its dimensions {shape} take {expected} bytes of data: fetch it again")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).reshape(shape)


def _find(root: Path, name: str) -> Path:
    for candidate in (root / name, root / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise wrong_folder("Fashion-MNIST", root, f"{name}[.gz] is missing", LAYOUT, ADVICE)


@dataclass(frozen=True)
class Dataset:
    """The training and test set of small grey images, named "digits" or "fashion-mnist", as tensors.

    Images are float32 (N, 1, H, W), standardised by the mean and variance of the training set. Labels are int64 (N,).
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def load(name: str, root: str | Path | None = None) -> Dataset:
    """Return the data set "digits", or "fashion-mnist" from the four IDX files in `root`, `FASHION_MNIST_ROOT` if None.

    Digits are 1797 of scikit-learn, 8 x 8, always the same 1347 to train and 450 to test. Fashion-MNIST are 70000
    articles of clothing, 28 x 28, 60000 to train and 10000 to test (Xiao 2017, arXiv 1708.07747). DatasetError for
    another name, or files that are absent, damaged or of another shape; MissingExtraError without scikit-learn.
    """
    splits: Splits[TensorPictures]
    if name == "digits":
        splits = read_digits()
    elif name == "fashion-mnist":
        splits = read_fashion_mnist(FASHION_MNIST_ROOT if root is None else folder_name(root, "root"))
    else:
        raise DatasetError(f"unknown data set {name!r}: known are 'digits' and 'fashion-mnist'")
    standardise = Standardisation.of(splits.train.images)
    train, test = standardise(splits.train.images), standardise(splits.test.images)
    return Dataset(name, train, splits.train.labels, test, splits.test.labels)


def read_digits() -> Splits[TensorPictures]:
    """Return scikit-learn's digits, uint8 (N, 1, 8, 8) from 0 to 240, always in the same split of 1347 and 450."""
    datasets = extras.require("sklearn.datasets", "demo")
    selection = extras.require("sklearn.model_selection", "demo")
    pixels, labels = (torch.from_numpy(part) for part in datasets.load_digits(return_X_y=True))
    images = (pixels * 15).to(torch.uint8).reshape(-1, 1, 8, 8)
    rows = selection.train_test_split(range(len(labels)), test_size=450, random_state=0, stratify=labels)
    train, test = (TensorPictures(images[part], labels[part].long()) for part in rows)
    return Splits(train, test, classes=10)
