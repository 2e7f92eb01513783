"""Safetensors files: written without numpy, and opened with an error that explains what is wrong.

A packed file has a checksum, the CRC-32 of its bytes with zeros for its digits. It finds damage, but is no signature.
"""

import ctypes
import errno
import json
import os
import zlib
from collections.abc import Mapping
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from proxconnect._support.paths import require_regular

CODES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
    torch.bool: "BOOL", torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip
"""The dtypes that a file can hold, with their names in safetensors."""

CHECKSUM = "proxconnect.crc32"
"""The metadata key of the checksum. It must be the first key, because its digits have a fixed place in the file."""
BLANK = "0" * 8
"""The value of that key while the checksum is computed."""
REMEDY = "copy it again, or save the model again with pc.save if another program rewrote the file"
"""The advice for a file whose checksum is wrong or missing."""

_LENGTH_BYTES = 8
_CHECKSUM_START = f'{{"__metadata__":{{"{CHECKSUM}":"'.encode()
_CHECKSUM_PLACE = _LENGTH_BYTES + len(_CHECKSUM_START)
_PIECE = 1 << 18  # fits into a cache of the processor
_ALIGNMENT = 64  # of the first tensor, like torch's allocations
_LONGEST_HEADER = 100_000_000  # the bound of safetensors
_SAVE_AGAIN = "save the packed model with pc.save(pc.pack(model), path)"


def storable(name: str, tensor: Tensor) -> Tensor:
    """Return a tensor for `write`; ValueError on the meta device, TypeError for a dtype that is not in `CODES`."""
    if tensor.is_meta:
        raise ValueError(f"tensor {name!r} is on the meta device and has no values: load them first")
    if tensor.dtype not in CODES:
        raise TypeError(f"tensor {name!r} is {tensor.dtype}, which no file holds: register it with persistent=False")
    return tensor.detach().cpu().resolve_neg()


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write or overwrite a safetensors file with tensors, each from `storable`, whose order does not matter.

    If the first string in `metadata` is `BLANK` under the key `CHECKSUM`, the file gets its checksum there.
    """
    names = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))  # wide ones first aligns all
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in names:
        tensor, start = tensors[name], end
        end += tensor.nbytes
        header[name] = {"dtype": CODES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + _LENGTH_BYTES) % _ALIGNMENT)
    with path.open("w+b") as file:
        file.write(len(text).to_bytes(_LENGTH_BYTES, "little"))
        file.write(text)
        for name in names:
            tensor = tensors[name].contiguous()
            if tensor.nbytes:
                file.write((ctypes.c_ubyte * tensor.nbytes).from_address(tensor.data_ptr()))
        if CHECKSUM in metadata:
            digits = _digits(file)
            file.seek(_CHECKSUM_PLACE)
            file.write(digits)


def open_checked(path: Path) -> Any:
    """Open a safetensors file on the CPU with `safetensors.safe_open`, and check its size and its checksum, if any.

    Use the result in a `with` statement. ValueError if the file is damaged, or no safetensors file; the message does
    not name the file. OSError if the file cannot be opened, or is too large to be mapped.
    """
    from safetensors import SafetensorError, safe_open

    require_regular(path)
    with path.open("rb") as beginning:
        start = beginning.read(_LENGTH_BYTES + 1)
        size = os.fstat(beginning.fileno()).st_size
    if not start:
        raise ValueError(f"it is empty: {_SAVE_AGAIN}")
    if start.startswith(b"PK\x03\x04"):
        raise ValueError(f"it is a zip archive, as torch.save writes, and no packed model: {_SAVE_AGAIN}")
    if start[0] == 0x80 and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") and start[8:9] != b"{":
        raise ValueError(f"it is a Python pickle, which is never read, and no packed model: {_SAVE_AGAIN}")
    header = int.from_bytes(start[:_LENGTH_BYTES], "little")
    if len(start) <= _LENGTH_BYTES:
        raise ValueError("it is truncated within its first bytes: copy or save it again")
    if start[_LENGTH_BYTES:] != b"{" or header > _LONGEST_HEADER:
        raise ValueError(f"it is no safetensors file: {_SAVE_AGAIN}")
    if _LENGTH_BYTES + header > size:
        raise ValueError(f"it is truncated: its header alone takes {header} bytes, the file has {size}: copy it again")
    try:
        file = safe_open(path, "pt", device="cpu")
    except SafetensorError as error:
        if size < _described_size(path):
            raise ValueError("it is truncated within its tensors: copy or save it again") from None
        raise ValueError(f"it is damaged ({error}): copy or save it again") from None
    except RuntimeError as error:  # torch's, when the system refuses
        raise OSError(errno.ENOMEM, f"it has {size} bytes, more than can be mapped here", str(path)) from error
    if CHECKSUM in (file.metadata() or {}):
        with path.open("rb") as opened:
            start = opened.read(_CHECKSUM_PLACE + len(BLANK))
            if start[_LENGTH_BYTES:] != _CHECKSUM_START + _digits(opened):
                raise ValueError(f"it is damaged (its checksum does not match its bytes): {REMEDY}")
    return file


def _digits(file: BufferedIOBase) -> bytes:
    """Return the checksum of an open file in hexadecimal, read in pieces to keep memory small."""
    file.seek(0)
    checksum = zlib.crc32(file.read(_CHECKSUM_PLACE) + BLANK.encode())
    file.seek(_CHECKSUM_PLACE + len(BLANK))
    piece = memoryview(bytearray(_PIECE))
    while count := file.readinto(piece):
        checksum = zlib.crc32(piece[:count], checksum)
    return f"{checksum:08x}".encode()


def _described_size(path: Path) -> int:
    """Return the size that the header describes, or 0 if it makes no sense."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        text = file.read(length)
    try:
        tensors = [entry for name, entry in json.loads(text).items() if name != "__metadata__"]
        return _LENGTH_BYTES + length + max((int(entry["data_offsets"][1]) for entry in tensors), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError):
        return 0
