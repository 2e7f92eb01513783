"""GGUF files for readers to fail on."""

import struct
from random import Random

from fuzzing.changes import INTERESTING, bytes_changed


def _text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def gguf_seeds() -> list[bytes]:
    """Two files, with fields of every kind, a matrix of signs and a vector of floats."""
    fields = [
        _text(b"general.architecture") + struct.pack("<I", 8) + _text(b"llama"),
        _text(b"llama.block_count") + struct.pack("<II", 4, 2),
        _text(b"eps") + struct.pack("<If", 6, 0.5),
        _text(b"is") + struct.pack("<IB", 7, 1),
        _text(b"scores") + struct.pack("<IIQ2f", 9, 6, 2, 1.0, 2.0),
        _text(b"tokens") + struct.pack("<IIQ", 9, 8, 2) + _text(b"a") + _text(b"b"),
    ]
    tensors = [_text(b"w") + struct.pack("<IQQIQ", 2, 128, 3, 41, 0), _text(b"n") + struct.pack("<IQIQ", 1, 8, 0, 64)]
    made = []
    for count in (2, 6):
        head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), count) + b"".join([*fields[:count], *tensors])
        made.append(head + bytes(-len(head) % 32) + bytes(96))
    return made


def mutate_gguf(data: bytes, random: Random, others: list[bytes]) -> bytes:
    """Other bytes, or another number in the place of one."""
    if random.random() < 0.5 or len(data) < 16:
        return bytes_changed(data, random)
    place, changed = random.randrange(4, len(data) - 8), bytearray(data)
    changed[place : place + 8] = struct.pack("<Q", random.choice(INTERESTING) % 2**64)
    return bytes(changed)
