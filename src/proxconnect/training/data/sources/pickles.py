"""CIFAR's batch files, which are pickles, read without trusting them.

A pickle can name any function to be called. Here no name is ever imported: the few that describe an array get
stand-ins of ours, which only note what they are given, and any other name is refused. Each is a class with a
`__setstate__`, since a pickle may set any attribute of what has none.
"""

import io
import math
import pickle
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from proxconnect._support.regular_files import require_regular
from proxconnect.training.data.errors import DatasetError

_LARGEST_PICKLE = 1 << 30
"""No batch file is larger."""


def read_batch(path: Path) -> dict[str, Any]:
    """The dict in the pickle `path`: keys as str, arrays of bytes as uint8 tensors, text of Python 2 as bytes.

    DatasetError where the file is absent, damaged, no dict, or names anything but arrays of bytes. Nothing in it runs.
    """
    try:
        require_regular(path)
        if path.stat().st_size > _LARGEST_PICKLE:
            raise DatasetError(f"{path} is too large to be a batch of CIFAR")
        content = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        if not isinstance(content, dict):
            raise DatasetError(f"{path} is no batch of CIFAR: it holds a {type(content).__name__}, expected a dict")
        return {_text(key): value.tensor() if isinstance(value, _Array) else value for key, value in content.items()}
    except DatasetError:
        raise
    except pickle.UnpicklingError as error:
        raise DatasetError(f"{path} is no batch of CIFAR: {error}") from error
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged pickle ends in an error of any kind
        reason = f"{type(error).__name__}: {error}"
        raise DatasetError(f"{path} is truncated or damaged ({reason}): fetch it again") from error


class _Kind:
    """Stands for `numpy.dtype`, of which only unsigned bytes are known."""

    def __init__(self, name: bytes | str, *_: object) -> None:
        if _text(name) not in ("u1", "|u1", "uint8"):
            raise pickle.UnpicklingError(f"its array is of {_text(name)!r}, expected 'u1', unsigned bytes")

    def __setstate__(self, state: object) -> None:
        """Byte order and the like say nothing about bytes."""


class _Array:
    """Stands for `numpy.ndarray`: what the pickle says of one."""

    shape: tuple[int, ...]
    content: bytes

    def __init__(self, *_: object) -> None:
        """The first call that a pickle makes gives only an empty array, which its state then fills."""

    def __setstate__(self, state: tuple[object, tuple[int, ...], _Kind, bool, bytes]) -> None:
        _, shape, _, by_columns, content = state
        self._fill(content, shape, by_columns)

    def _fill(self, content: bytes, shape: tuple[int, ...], by_columns: bool) -> None:
        if math.prod(shape) != len(content) or any(size < 1 for size in shape):
            raise pickle.UnpicklingError(f"its array of shape {shape} has {len(content)} bytes")
        self.shape = shape[::-1] if by_columns else shape
        self.content, self.by_columns = content, by_columns

    def tensor(self) -> Tensor:
        """The array as a uint8 tensor."""
        values = torch.frombuffer(bytearray(self.content), dtype=torch.uint8).reshape(self.shape)
        return values.permute(*reversed(range(values.dim()))) if self.by_columns else values


class _FilledArray(_Array):
    """Stands for the function by which protocol 5 makes an array at once."""

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
    """The unpickler in Python, since the one in C makes as much room as any number in the file says."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no part of an array; refused")
        return _STAND_INS[module, name]

    def load_bytearray8(self: Any) -> None:  # what the base class has is in no stub
        """As the base class, which makes as much room as the file says before it looks whether there is as much."""
        size = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(size)))

    dispatch: ClassVar[Any] = pickle._Unpickler.dispatch | {pickle.BYTEARRAY8[0]: load_bytearray8}


def _text(value: object) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
