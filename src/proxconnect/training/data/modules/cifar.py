"""CIFAR-10 and CIFAR-100, in the folders that torchvision unpacks, whose pickles are read without trusting them.

A pickle can name any function to be called. Here no name is imported: the few names that describe an array get
stand-ins, which only note their arguments, and any other name is refused. Each stand-in is a class with a
`__setstate__`, since a pickle may set any attribute of a class without one.
"""

import io
import math
import pickle
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from proxconnect._support.paths import require_regular
from proxconnect.training.data.modules.base import Downloadable
from proxconnect.training.data.pictures import DatasetError, Splits, TensorPictures, checked, downloading, wrong_folder

_MOST_BYTES = 1 << 30


class _Cifar(Downloadable):
    """The common part of Cifar10 and Cifar100; root holds the folder of the files, or is it. All pictures are used."""

    in_channels, published_size = 3, 32
    folder: str
    train_files: tuple[str, ...]
    test_file: str
    label_key: str

    def read(self) -> Splits[TensorPictures]:
        """Return the training and test set from the pickles in root; DatasetError if one is absent or wrong."""
        root = self._root
        folder = root if root.name == self.folder else root / self.folder
        missing = [file for file in (*self.train_files, self.test_file) if not (folder / file).is_file()]
        if missing:
            problem = f"{missing[0]} is missing in" if folder.is_dir() else "it has no folder"
            layout = "\n    ├── ".join((f"└── {self.folder}", *self.train_files)) + f"\n    └── {self.test_file}"
            advice = (
                f"Give the folder that holds {self.folder} as root (--data.root), have it fetched with download=True "
                f"(--data.download true), or unpack {self.name}'s Python version from "
                "https://www.cs.toronto.edu/~kriz/cifar.html"
            )
            raise wrong_folder(self.name, folder.parent, f"{problem} {self.folder}", layout, advice)
        parts = [self._pictures(folder / name) for name in self.train_files]
        train = TensorPictures(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))
        return Splits(train, self._pictures(folder / self.test_file), self.classes)

    def fetch(self, root: Path) -> None:
        """Fetch the archive into `root` and unpack it, unless that is done; DatasetError if that fails."""
        from torchvision import datasets

        if (root / self.folder).is_dir() or root.name == self.folder:
            return
        theirs = getattr(datasets, self.name.replace("-", ""))
        with downloading(self.name, root):
            datasets.utils.download_and_extract_archive(theirs.url, root, filename=theirs.filename, md5=theirs.tgz_md5)

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
        return checked(images.reshape(-1, 3, 32, 32), torch.tensor(labels), (3, 32, 32), self.classes, str(path))


class Cifar10(_Cifar):
    """Data module of CIFAR-10: 50000 training and 10000 test images, 3 × 32 × 32, of 10 classes.

    Source: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images.
    """

    name, classes, label_key = "CIFAR-10", 10, "labels"
    folder, test_file = "cifar-10-batches-py", "test_batch"
    train_files = tuple(f"data_batch_{number}" for number in range(1, 6))


class Cifar100(_Cifar):
    """Data module of CIFAR-100: 50000 training and 10000 test images, 3 × 32 × 32, with the 100 fine labels."""

    name, classes, label_key = "CIFAR-100", 100, "fine_labels"
    folder, test_file = "cifar-100-python", "test"
    train_files = ("train",)


def read_batch(path: Path) -> dict[str, Any]:
    """Return the dict in a pickle of CIFAR, as {"data": ..., "labels": ...}, without running any code in it.

    Keys become str, values that are arrays of bytes become uint8 tensors, and text of Python 2 becomes bytes.
    DatasetError if the file is absent, damaged, too large, no dict, or names anything but arrays of bytes.
    """
    try:
        require_regular(path)
        if path.stat().st_size > _MOST_BYTES:
            raise pickle.UnpicklingError("it is too large")
        content = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        if not isinstance(content, dict):
            raise pickle.UnpicklingError(f"it holds a {type(content).__name__}, expected a dict")
        return {_text(key): value.tensor if isinstance(value, _Array) else value for key, value in content.items()}
    except pickle.UnpicklingError as error:
        raise DatasetError(f"{path} is no batch of CIFAR: {error}") from error
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged pickle raises any kind of error
        reason = f"{type(error).__name__}: {error}"
        raise DatasetError(f"{path} is truncated or damaged ({reason}): fetch it again") from error


class _Kind:
    """Stands for `numpy.dtype`; only unsigned bytes are known."""

    def __init__(self, name: bytes | str, *_: object) -> None:
        if _text(name) not in ("u1", "|u1", "uint8"):
            raise pickle.UnpicklingError(f"its array is of {_text(name)!r}, expected 'u1', unsigned bytes")

    def __setstate__(self, state: object) -> None:
        """Ignore byte order and the like, which mean nothing for bytes."""


class _Array:
    """Stands for `numpy.ndarray`, or for its `_reconstruct`, after which a pickle sets the state."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple[object, tuple[int, ...], _Kind, bool, bytes]) -> None:
        _, shape, _, by_columns, content = state
        self._fill(content, shape, by_columns)

    def _fill(self, content: bytes, shape: tuple[int, ...], by_columns: bool) -> None:
        if math.prod(shape) != len(content) or any(size < 1 for size in shape):
            raise pickle.UnpicklingError(f"its array of shape {shape} has {len(content)} bytes")
        values = torch.frombuffer(bytearray(content), dtype=torch.uint8).reshape(shape[::-1] if by_columns else shape)
        self.tensor = values.permute(*reversed(range(len(shape)))) if by_columns else values


class _FilledArray(_Array):
    """Stands for numpy's `_frombuffer`, which protocol 5 calls."""

    def __init__(self, content: bytes, _: _Kind, shape: tuple[int, ...], order: str) -> None:
        self._fill(content, shape, order == "F")


class _Latin(bytes):
    """Stands for `_codecs.encode`, by which Python 3 writes bytes in protocol 2."""

    def __new__(cls, text: str, encoding: str) -> "_Latin":
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"its bytes are encoded as {encoding!r}, expected 'latin1'")
        return super().__new__(cls, text.encode("latin1"))

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("its bytes have a state")


_STAND_INS: dict[tuple[str, str], type] = {
    ("_codecs", "encode"): _Latin,
    ("numpy", "dtype"): _Kind,
    ("numpy", "ndarray"): _Array,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _FilledArray for core in ("core", "_core")},
}


class _ArraysOnly(pickle._Unpickler):
    """Python's unpickler; the one in C allocates whatever size the file claims."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no part of an array; refused")
        return _STAND_INS[module, name]

    def load_bytearray8(self: Any) -> None:  # the stubs lack the attributes of the base class
        """Load a bytearray, but read its bytes before allocating, unlike the base class."""
        size = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(size)))

    dispatch: ClassVar[Any] = pickle._Unpickler.dispatch | {pickle.BYTEARRAY8[0]: load_bytearray8}


def _text(value: object) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
