"""Read GGUF files without trust: every size and count is checked against the length of the file.

The layout is that of ggml's docs/gguf.md, version 3: a header, fields, descriptions of tensors, and their data.
"""

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedReader
from math import prod
from typing import Any

from proxconnect._support.paths import require_regular


class GgufFileError(ValueError):
    """The error of a GGUF file that is damaged, or that does not fit the model; the message says why."""


F32, F16, Q8_0, BF16, Q1_0 = 0, 1, 8, 30, 41
KINDS = {F32: (1, 4), F16: (1, 2), Q8_0: (32, 34), BF16: (1, 2), Q1_0: (128, 18)}
"""The types of tensors that are read: the entries and the bytes of a block."""

_NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY, _BOOL = 8, 9, 7
_LONGEST_NAME = 1 << 16
_MOST_DIMENSIONS = 4
_ALIGNMENT = 32


@dataclass(frozen=True)
class Stored:
    """A tensor in a file."""

    kind: int
    """Its type, a key of `KINDS`."""
    shape: tuple[int, ...]
    """Its shape as in torch: the last dimension is contiguous."""
    start: int
    """The place of its first byte in the file."""

    @property
    def bytes(self) -> int:
        """The bytes of its values."""
        entries, size = KINDS[self.kind]
        return prod(self.shape) // entries * size


@dataclass(frozen=True)
class Contents:
    """The fields and the tensors of a file; values of fields that are arrays are None."""

    fields: dict[str, Any]
    tensors: dict[str, Stored]


def read_contents(path: str | os.PathLike[str]) -> Contents:
    """Return what a GGUF file holds, without the values of its tensors.

    Raises:
        GgufFileError: for a file that is damaged, of another version, or has tensors of other types than `KINDS`.
        OSError: if it cannot be read.
    """
    regular = require_regular(path)
    with regular.open("rb") as file:
        return _Reader(file, regular.stat().st_size).contents()


class _Reader:
    def __init__(self, file: BufferedReader, size: int) -> None:
        self._file, self._size = file, size

    def contents(self) -> Contents:
        if self._bytes(4) != b"GGUF":
            raise GgufFileError("it is no GGUF file")
        version = self._number("<I")
        if version not in (2, 3):
            raise GgufFileError(f"it is of version {version} of GGUF, and versions 2 and 3 are read")
        counts = self._number("<Q"), self._number("<Q")
        fields = self._table(counts[1], self._field)
        described = self._table(counts[0], self._described)
        alignment = fields.get("general.alignment", _ALIGNMENT)
        if type(alignment) is not int or not 1 <= alignment <= _LONGEST_NAME:
            raise GgufFileError(f"general.alignment is {alignment!r}, and not a number of bytes")
        begin = -(-self._file.tell() // alignment) * alignment
        tensors = {name: Stored(kind, shape, begin + at) for name, (kind, shape, at) in described.items()}
        for name, tensor in tensors.items():
            if tensor.start + tensor.bytes > self._size:
                raise GgufFileError(f"tensor {name!r} ends after the file, which is cut off or damaged")
        return Contents(fields, tensors)

    def _table(self, count: int, read: Callable[[], Any]) -> dict[str, Any]:
        table: dict[str, Any] = {}
        for _ in range(count):  # each takes bytes of the file, which ends at last
            name = self._string(_LONGEST_NAME)
            if name in table:
                raise GgufFileError(f"it has {name!r} twice")
            table[name] = read()
        return table

    def _field(self) -> Any:
        kind = self._number("<I")
        if kind == _ARRAY:
            return self._skip_array()
        return self._value(kind)

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string(self._size)
        if kind not in _NUMBERS:
            raise GgufFileError(f"it has a field of type {kind}, which GGUF does not have")
        value = self._number(_NUMBERS[kind])
        return bool(value) if kind == _BOOL else value

    def _skip_array(self) -> None:
        kind, count = self._number("<I"), self._number("<Q")
        if kind == _STRING:
            for _ in range(count):
                self._skip(self._number("<Q"))
        elif kind in _NUMBERS:
            self._skip(count * struct.calcsize(_NUMBERS[kind]))
        else:
            raise GgufFileError(f"it has an array of type {kind}, which is not read")

    def _described(self) -> tuple[int, tuple[int, ...], int]:
        dimensions = self._number("<I")
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise GgufFileError(f"it has a tensor of {dimensions} dimensions, and 1 to {_MOST_DIMENSIONS} are allowed")
        shape = tuple(self._number("<Q") for _ in range(dimensions))[::-1]
        kind, start = self._number("<I"), self._number("<Q")
        if kind not in KINDS:
            raise GgufFileError(f"it has a tensor of type {kind}; F32, F16, BF16, Q8_0 and Q1_0 are read")
        if 0 in shape or shape[-1] % KINDS[kind][0]:
            raise GgufFileError(f"a tensor of shape {shape} has no whole blocks of its type")
        return kind, shape, start

    def _string(self, most: int) -> str:
        length = self._number("<Q")
        if length > most:
            raise GgufFileError(f"it has a text of {length} bytes, which is too long")
        try:
            return self._bytes(length).decode()
        except UnicodeDecodeError:
            raise GgufFileError("it has a text that is not UTF-8") from None

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._bytes(struct.calcsize(form)))[0]

    def _skip(self, count: int) -> None:
        if count > self._size - self._file.tell():
            raise GgufFileError("it ends early: it is cut off or damaged")
        self._file.seek(count, os.SEEK_CUR)

    def _bytes(self, count: int) -> bytes:
        if count > self._size - self._file.tell():
            raise GgufFileError("it ends early: it is cut off or damaged")
        return self._file.read(count)
