"""Packed files for readers to fail on: what the library writes, and changes that know its parts."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

import proxconnect as pc
from fuzzing.changes import INTERESTING, LARGEST, bytes_changed, tree_changed, tree_text

DTYPES = ["F64", "F32", "F16", "BF16", "I64", "I8", "U8", "BOOL", "F8_E4M3", "C64", "F4", "U64", "X", ""]
VOCABULARY: list[Any] = [
    *DTYPES, "linear", "conv2d", "conv_transpose2d", "parameter", "projection", "int8_linear", "int8_embedding",
    "channel", "tensor", "float32", "float16", "float64", "same", "valid", "zeros", "circular", "wrap", "cyclic",
    [0], [1, 1], [0, 2**63], [2**62, 4], [-1, 4], [0, 1e999], [10**18, 10**18], 
    {"bits": 8, "overflow": "wrap", "slope": 2},
    "embedding", "first", "first.bits", "first.scale", "deep.0.weight", "pt",
]  # fmt: skip


_START = b'{"__metadata__":{"proxconnect.crc32":"'
"""The first bytes of the header of a packed file. The digits of the checksum follow."""


def resealed(data: bytes) -> bytes:
    """Correct the checksum of a file, if it still has a place for one, so that readers look at what else it holds."""
    place = 8 + len(_START)
    if data[8:place] != _START or len(data) < place + 8:
        return data
    rest = data[place + 8 :]
    checksum = zlib.crc32(data[:place] + b"00000000" + rest)
    return data[:place] + f"{checksum:08x}".encode() + rest


class Small(nn.Module):
    """A network with most of what a packed file can hold: layers of 1 and of 8 bits, a convolution, a tied weight."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 6)
        self.first = nn.Linear(6, 7)
        self.image = nn.Conv2d(1, 3, 3, padding=1, groups=1)
        self.norm = nn.BatchNorm2d(3)
        self.last = nn.Linear(3, 5)
        self.same = self.first

    def forward(self, rows: Tensor) -> Tensor:
        hidden = self.first(self.words(rows))
        return self.last(self.norm(self.image(hidden[:, None])).mean((2, 3)))


def seeds() -> list[bytes]:
    """Files with floats, and with 8 and 16 bits in their place."""
    torch.manual_seed(0)
    model = pc.binarize(Small(), weights="bnn++", keep=["words", "last"])
    files = [_saved(pc.pack(model, remainder="int8", vectors="float16"))]
    model = pc.binarize(Small(), activations="poly", accumulator=pc.Accumulator(bits=8), keep=["words", "image"])
    return [*files, _saved(pc.pack(model))]


def _saved(packed: nn.Module) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "seed.safetensors"
        pc.save(packed, path)
        return path.read_bytes()


def mutate(data: bytes, random: Random, others: list[bytes]) -> bytes:
    """Another file, which differs in its header, its metadata, its tensors, or in bytes of no known meaning.

    In nine of ten cases the checksum is corrected, so that readers do not refuse the file for that alone.
    """
    changed = _changed(data, random)
    return changed if random.random() < 0.1 else resealed(changed)


def _changed(data: bytes, random: Random) -> bytes:
    if random.random() < 0.15:
        return bytes_changed(data, random)
    try:
        length = int.from_bytes(data[:8], "little")
        header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
        return random.choice(_CHANGES)(header, body, random)[:LARGEST]
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return bytes_changed(data, random)  # what was changed before has no such part any more


def _joined(text: str, body: bytes, length: int | None = None) -> bytes:
    text = text.replace('{"__metadata__": {"proxconnect.crc32": "', _START.decode(), 1)  # json.dumps adds spaces
    head = text.encode("utf-8", "surrogatepass")
    return (len(head) if length is None else length % 2**64).to_bytes(8, "little") + head + body


def _header_changed(header: dict[str, Any], body: bytes, random: Random) -> bytes:
    return _joined(tree_text(tree_changed(header, random, VOCABULARY)), body)


def _metadata_changed(header: dict[str, Any], body: bytes, random: Random) -> bytes:
    metadata = json.loads(header["__metadata__"]["proxconnect"])
    header["__metadata__"]["proxconnect"] = tree_text(tree_changed(metadata, random, VOCABULARY))
    return _joined(json.dumps(header), body)


def _tensor_changed(header: dict[str, Any], body: bytes, random: Random) -> bytes:
    """Bits after the last weight, scales that are no numbers, levels of -128: ends of tensors, mostly."""
    changed = bytearray(body)
    ends = [
        entry["data_offsets"][1] for entry in header.values() if isinstance(entry, dict) and "data_offsets" in entry
    ]
    for _ in range(random.choice((1, 1, 4))):
        place = random.choice(ends or [0]) - random.choice((1, 2, 4))
        changed[place] = random.choice((0, 1, 127, 128, 255, random.randrange(256)))
    return _joined(json.dumps(header), bytes(changed))


def _places_changed(header: dict[str, Any], body: bytes, random: Random) -> bytes:
    """Tensors that overlap, change places, leave gaps, or are as large as their numbers can say."""
    names = [name for name in header if name != "__metadata__"]
    one, other = random.choice(names), random.choice(names)
    size = random.choice(INTERESTING)
    entry: Any = random.choice((
        {"data_offsets": header[other].get("data_offsets")}, dict(header[other]), {"data_offsets": [0, len(body)]},
        {"shape": [size, *random.choices(INTERESTING, k=2)]}, {"shape": [size], "data_offsets": [0, size]},
        {"shape": [0, size]}, {"shape": [], "dtype": "F32"}, {"dtype": random.choice(DTYPES)},
        {"data_offsets": [len(body), 0]}, 
        {"data_offsets": [0, random.choice((1e999, "9" * 5000, 2**63, -1, 0.5))]}, {"shape": [1] * 3000},
    ))  # fmt: skip
    header[one] = {**header[one], **entry}
    return _joined(json.dumps(header), body)


def _lengths_changed(header: dict[str, Any], body: bytes, random: Random) -> bytes:
    """A length that is none of the header's, blanks without end, many tensors, names of thousands of letters."""
    text = json.dumps(header)
    if random.random() < 0.4:
        return _joined(text, body, random.choice((*INTERESTING, len(text) - 1, len(text) + 1, 10**8, 10**8 + 1)))
    many = {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(random.choice((1, 900)))}
    bombs: list[Callable[[], str]] = [
        lambda: text + " " * random.choice((1, 50_000)), lambda: json.dumps(header | many),
        lambda: json.dumps(header | {"n" * 40_000: many["t0"]}), lambda: text[:-1] + ',"__metadata__":{}}',
        lambda: text[:-1] + "," + text[1:], lambda: "[" * 40_000, lambda: '{"a":' * 9000,
        lambda: text.replace('"', "'"),
    ]  # fmt: skip
    return _joined(random.choice(bombs)(), body)


_CHANGES = (_header_changed, _metadata_changed, _metadata_changed, _metadata_changed, _tensor_changed, _places_changed,
            _lengths_changed)  # fmt: skip
