"""Files of data sets for readers to fail on: IDX, plain and compressed, and CIFAR's pickles."""

import gzip
import os
import pickle
import struct
from random import Random

import numpy

from fuzzing.changes import INTERESTING, LARGEST, bytes_changed
from fuzzing.checkpoint_files import PARTS


def idx_seeds() -> list[bytes]:
    """Two by three bytes, as they are and compressed."""
    plain = b"\0\0\x08\x02" + struct.pack(">2I", 2, 3) + bytes(range(6))
    return [plain, gzip.compress(plain, mtime=0)]


def mutate_idx(data: bytes, random: Random, others: list[bytes]) -> bytes:
    """Other bytes, or other sizes, compressed or not."""
    if random.random() < 0.3:
        return bytes_changed(data, random)
    dimensions = random.choice((0, 1, 2, 3, 4, 5, 255))
    sizes = [random.choice(INTERESTING) % 2**32 for _ in range(dimensions)]
    content = b"\0\0" + bytes([random.choice((8, 8, 9)), dimensions]) + struct.pack(f">{dimensions}I", *sizes)
    content += bytes(random.choice((0, 6, 60_000)))
    return bytes_changed(gzip.compress(content, mtime=0) if random.random() < 0.5 else content, random)


class _Harmful:
    def __reduce__(self) -> object:
        return os.mkdir, ("made-by-a-file",)


def cifar_seeds() -> list[bytes]:
    """A batch of two pictures by each protocol, and one that would run code."""
    batch = {b"data": numpy.zeros((2, 30), numpy.uint8), b"labels": [0, 1], b"batch_label": b"one"}
    return [*(pickle.dumps(batch, protocol) for protocol in (2, 4, 5)), pickle.dumps({b"data": _Harmful()}, 2)]


def mutate_cifar(data: bytes, random: Random, others: list[bytes]) -> bytes:
    """Other bytes, or operations of pickles between them."""
    if random.random() < 0.5:
        return bytes_changed(data, random)
    place = random.randrange(len(data) + 1)
    return (data[:place] + b"".join(random.choices(PARTS, k=2)) + data[place + random.choice((0, 1, 2)) :])[:LARGEST]
