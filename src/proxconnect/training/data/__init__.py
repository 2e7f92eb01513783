"""Data sets as plain tensors: the digits of scikit-learn, and Fashion-MNIST from its IDX files."""

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from proxconnect import extras

FASHION_MNIST_ROOT = Path("/usr/share/datasets/fashion-mnist")
"""Where the Debian package dataset-fashion-mnist puts the files."""

_UNSIGNED_BYTE = 0x08
_LARGEST_IDX = 1 << 30
"""No IDX file read here is larger; a header that says otherwise is refused before anything is allocated."""


@dataclass(frozen=True)
class Dataset:
    """Images, float32 (N, 1, H, W) of zero mean and unit variance over the training set, and labels, int64 (N,)."""

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


class DatasetError(ValueError):
    """The files of a data set are absent or not what they should be; the message says which and what to do."""


def load(name: str, root: Path | None = None) -> Dataset:
    """The data set called "digits" or "fashion-mnist"; `root` is the folder of the latter's files."""
    if name == "digits":
        return digits()
    if name == "fashion-mnist":
        return fashion_mnist(FASHION_MNIST_ROOT if root is None else root)
    raise DatasetError(f"unknown data set {name!r}: known are 'digits' and 'fashion-mnist'")


def digits() -> Dataset:
    """1797 handwritten digits, 8 x 8, embedded in scikit-learn: 1347 to train, 450 to test, split by class.

    The split is the same in every call. Source: UCI, Optical Recognition of Handwritten Digits.
    """
    datasets = extras.require("sklearn.datasets", "demo")
    selection = extras.require("sklearn.model_selection", "demo")
    pixels, labels = datasets.load_digits(return_X_y=True)
    split = selection.train_test_split(pixels, labels, test_size=450, random_state=0, stratify=labels)
    train_pixels, test_pixels, train_labels, test_labels = (torch.from_numpy(part) for part in split)
    train_images, test_images = _standardised(train_pixels.reshape(-1, 8, 8), test_pixels.reshape(-1, 8, 8))
    return Dataset("digits", train_images, train_labels.long(), test_images, test_labels.long())


def fashion_mnist(root: Path = FASHION_MNIST_ROOT) -> Dataset:
    """70000 articles of clothing, 28 x 28: 60000 to train, 10000 to test, from the four IDX files in `root`.

    Source: Xiao 2017 (arXiv 1708.07747).
    """
    parts = {}
    for prefix, count in (("train", 60000), ("t10k", 10000)):
        images = read_idx(_find(root, f"{prefix}-images-idx3-ubyte"))
        labels = read_idx(_find(root, f"{prefix}-labels-idx1-ubyte"))
        if images.shape != (count, 28, 28) or labels.shape != (count,) or int(labels.max()) > 9:
            raise DatasetError(
                f"{root} does not hold Fashion-MNIST: {prefix} has images {tuple(images.shape)} and labels "
                f"{tuple(labels.shape)}, expected {(count, 28, 28)} and {(count,)} with labels 0 to 9"
            )
        parts[prefix] = (images, labels.long())
    train_images, test_images = _standardised(parts["train"][0], parts["t10k"][0])
    return Dataset("fashion-mnist", train_images, parts["train"][1], test_images, parts["t10k"][1])


def read_idx(path: Path) -> Tensor:
    """The uint8 tensor in an IDX file, plain or gzip-compressed (told apart by content, not by name).

    DatasetError unless the magic number says unsigned bytes and the length is the one that the dimensions give.
    """
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if compressed else path.open("rb") as stream:
            content = stream.read(_LARGEST_IDX + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DatasetError(f"{path} is truncated or damaged ({error}): fetch it again") from error
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error
    return _parse_idx(content, path)


def _parse_idx(content: bytes, path: Path) -> Tensor:
    """The tensor that `content` describes: two zero bytes, the type, the number of dimensions, the sizes, the data."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UNSIGNED_BYTE or not 1 <= content[3] <= 4:
        raise DatasetError(
            f"{path} is no IDX file of unsigned bytes: it starts with {content[:4].hex(' ') or 'nothing'}, "
            "expected 00 00 08 and the number of dimensions"
        )
    header = 4 + 4 * content[3]
    if len(content) < header:
        raise DatasetError(f"{path} is truncated: {len(content)} bytes, its header alone takes {header}")
    shape = struct.unpack(f">{content[3]}I", content[4:header])
    expected = header + math.prod(shape)
    if math.prod(shape) == 0 or expected > _LARGEST_IDX or len(content) != expected:
        raise DatasetError(
            f"{path} has {len(content)} bytes, but its dimensions {shape} take {expected}: "
            f"{'it is truncated' if len(content) < expected else 'it is damaged'}, fetch it again"
        )
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header).reshape(shape)


def _find(root: Path, name: str) -> Path:
    for candidate in (root / name, root / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise DatasetError(
        f"no Fashion-MNIST in {root}: {name}[.gz] is missing. Expected there, plain or as .gz: "
        "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte. "
        "Pass their folder with --root, or on Debian run: apt install dataset-fashion-mnist"
    )


def _standardised(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Both as float32 (N, 1, H, W), shifted and scaled by mean and standard deviation over all of `train`."""
    mean, deviation = train.double().mean(), train.double().std()
    images, test_images = (((part.double() - mean) / deviation).float().unsqueeze(1) for part in (train, test))
    return images, test_images
