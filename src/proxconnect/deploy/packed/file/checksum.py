"""The checksum of a packed file: the CRC-32 of all its bytes, with zeros in place of its own digits.

It finds accidental damage. It is no signature, because anyone can compute it for a changed file.
"""

import zlib
from io import BufferedIOBase
from pathlib import Path

KEY = "proxconnect.crc32"
"""The metadata key of the checksum. It must be the first key, because its digits have a fixed place in the file."""
BLANK = "0" * 8
"""The value of that key while the checksum is computed."""
REMEDY = "copy it again, or save the model again with pc.save if another program rewrote the file"
"""The advice for a file whose checksum is wrong or missing."""

_START = f'{{"__metadata__":{{"{KEY}":"'.encode()
_PLACE = 8 + len(_START)  # the first 8 bytes are the length of the header
_PIECE = 1 << 18  # fits into a cache of the processor


def seal(path: Path) -> None:
    """Write the checksum into a file that `tensor_file.write` wrote, whose first metadata is `{KEY: BLANK}`."""
    with path.open("r+b") as file:
        digits = _digits(file)
        file.seek(_PLACE)
        file.write(digits)


def require_match(path: Path) -> None:
    """Raise ValueError unless the file has the checksum of its bytes at the place where `seal` writes it."""
    with path.open("rb") as file:
        start = file.read(_PLACE + len(BLANK))
        computed = _digits(file)
    if start[8:] != _START + computed:
        raise ValueError(f"it is damaged (its checksum does not match its bytes): {REMEDY}")


def _digits(file: BufferedIOBase) -> bytes:
    """Return the checksum of an open file in hexadecimal, read in pieces to keep memory small."""
    file.seek(0)
    checksum = zlib.crc32(file.read(_PLACE) + BLANK.encode())
    file.seek(_PLACE + len(BLANK))
    piece = memoryview(bytearray(_PIECE))
    while count := file.readinto(piece):
        checksum = zlib.crc32(piece[:count], checksum)
    return f"{checksum:08x}".encode()
