"""IDX files, the format of MNIST and its kin."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from proxconnect._support.regular_files import require_regular
from proxconnect.training.data.errors import DatasetError

_UNSIGNED_BYTE = 0x08
_LARGEST_IDX = 1 << 30
"""No IDX file read here is larger; a header that says otherwise is refused before anything is allocated."""

_LONGEST_HEADER = 4 + 4 * 4
"""Of four dimensions, the most that are read."""


def read_idx(path: Path) -> Tensor:
    """The uint8 tensor in an IDX file, plain or gzip-compressed (told apart by content, not by name).

    DatasetError unless the magic number says unsigned bytes and the length is the one that the dimensions give.
    """
    try:
        require_regular(path)
        with path.open("rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if compressed else path.open("rb") as stream:
            start = stream.read(_LONGEST_HEADER)
            content = start + stream.read(max(0, min(_size(start), _LARGEST_IDX) + 1 - len(start)))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DatasetError(f"{path} is truncated or damaged ({error}): fetch it again") from error
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error
    return _parse_idx(content, path)


def _size(start: bytes) -> int:
    """The bytes of a file that starts so, as its sizes say; beyond them a compressed file may go on without end."""
    header = 4 + 4 * start[3] if len(start) > 3 else 0
    sizes = start[4:header]
    lengths: tuple[int, ...] = struct.unpack(f">{len(sizes) // 4}I", sizes[: len(sizes) // 4 * 4])
    return header + math.prod(lengths)


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
