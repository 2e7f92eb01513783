"""Fashion-MNIST as its four IDX files, the format of MNIST and its kin."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import torch
from torch import Tensor

from proxconnect._support.regular_files import require_regular
from proxconnect.training.data.errors import DatasetError, wrong_folder
from proxconnect.training.data.pictures import Splits, TensorPictures, checked

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

_LARGEST = 1 << 30
"""The most bytes that are read from an IDX file."""


def read_fashion_mnist(root: Path) -> Splits[TensorPictures]:
    """Read both splits; DatasetError if a file is absent, damaged or of other shapes or labels."""
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
    """Read the uint8 tensor of an IDX file, plain or gzip-compressed (recognised by content, not by name).

    DatasetError unless it holds unsigned bytes, exactly as many as its dimensions say.
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
    content = stream.read(min(expected, _LARGEST) + 1)  # a compressed file may go on without end
    if not 0 < expected <= _LARGEST or len(content) != expected:
        fault = "truncated" if len(content) < expected else "damaged"
        raise DatasetError(f"{path} is {fault}: its dimensions {shape} take {expected} bytes of data: fetch it again")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).reshape(shape)


def _find(root: Path, name: str) -> Path:
    for candidate in (root / name, root / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise wrong_folder("Fashion-MNIST", root, f"{name}[.gz] is missing", LAYOUT, ADVICE)
