"""Pictures and shards of pictures for readers to fail on: JPEG, PNG, WebP, what only calls itself so, and parquet."""

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from fuzzing.changes import INTERESTING, LARGEST, bytes_changed

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(made-by-a-file) (w) file\n%%EOF\n"
"""A program that some readers of pictures give to Ghostscript."""
SEGMENTS = (b"Exif\0\0II*\0", b"Adobe\0d\0\0\0\0", b"ICC_PROFILE\0\1\2", b"MPF\0II*\0\x08\0\0\0", b"JFIF\0")
"""How segments of JPEG files begin that have a meaning."""
COLUMN = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@cache
def picture_seeds() -> list[bytes]:
    """Pictures of each kind that ImageNet has, some that it has not, and a program."""
    colours = Image.frombytes("RGB", (7, 5), bytes(range(105)))
    kinds: list[tuple[str, str, dict[str, Any]]] = [
        ("RGB", "JPEG", {}), ("L", "JPEG", {}), ("CMYK", "JPEG", {}), ("RGB", "JPEG", {"progressive": True}),
        ("P", "PNG", {"transparency": 0}), ("RGBA", "PNG", {}), ("1", "PNG", {}), ("I;16", "PNG", {}),
        ("RGB", "WEBP", {}), ("RGBA", "WEBP", {"lossless": True}), ("P", "GIF", {}), ("RGB", "TIFF", {}),
    ]  # fmt: skip
    return [*(_written(colours, mode, kind, options) for mode, kind, options in kinds), POSTSCRIPT]


def _written(picture: Image.Image, mode: str, kind: str, options: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    converted = picture.convert("L").convert("I").convert(mode) if mode == "I;16" else picture.convert(mode)
    converted.save(stream, kind, **options)
    return stream.getvalue()


def mutate_picture(data: bytes, random: Random, others: list[bytes]) -> bytes:
    """Other bytes, other sizes, other chunks of a PNG, or a segment more of a JPEG."""
    if random.random() < 0.4:
        return bytes_changed(data, random)
    if data.startswith(b"\x89PNG"):
        return _png_changed(data, random)[:LARGEST]
    if data.startswith(b"\xff\xd8"):
        return _jpeg_changed(data, random)[:LARGEST]
    return bytes_changed(random.choice((data, random.choice(others))), random)


@cache
def _zeros(count: int) -> bytes:
    return zlib.compress(bytes(count))


def _png_changed(data: bytes, random: Random) -> bytes:
    """A chunk more, at any place, or a header of another size and kind; the checksums are right."""
    size = [random.choice((1, 7, 9000, 100_000, *INTERESTING)) % 2**32 for _ in range(2)]
    kind = [random.choice((1, 2, 8, 16, 255)), random.choice((0, 2, 3, 4, 6, 7)), 0, 0, random.choice((0, 1, 2))]
    chunks = {
        b"IHDR": struct.pack(">2I5B", *size, *kind), b"PLTE": random.randbytes(random.choice((0, 3, 4, 768, 3000))),
        b"tRNS": random.randbytes(random.choice((0, 1, 2, 6, 300))), b"fdAT": b"\0\0\0\1" + random.randbytes(8),
        b"iCCP": b"a\0\0" + _zeros(random.choice((0, 10**7))), b"pHYs": random.randbytes(9),
        b"zTXt": b"a\0\0" + _zeros(10**7), b"iTXt": b"a\0\1\0\0\0" + _zeros(10**7),
        b"acTL": struct.pack(">2I", random.choice(INTERESTING) % 2**32, 0), b"eXIf": random.randbytes(12),
        b"IDAT": _zeros(random.choice((0, 40, 10**7))), b"fcTL": random.randbytes(26), b"IEND": b"",
    }  # fmt: skip
    name = random.choice(list(chunks))
    content = chunks[name][: random.choice((None, None, 3, 0))]
    chunk = struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    places = [8, 33, *(at - 4 for at in range(len(data)) if data[at : at + 4] in (b"IDAT", b"IEND"))]
    return data[:8] + chunk + data[33:] if name == b"IHDR" else _put(data, random.choice(places), chunk)


def _jpeg_changed(data: bytes, random: Random) -> bytes:
    """Another size in the frame's header, or a segment with content of its own behind the first marker."""
    frame = next((at for at in range(len(data) - 8) if data[at] == 0xFF and data[at + 1] in (0xC0, 0xC2)), None)
    if frame is not None and random.random() < 0.5:
        size = struct.pack(">2H", *(random.choice((0, 1, 9000, 16_000, 65_535)) for _ in range(2)))
        return data[: frame + 5] + size + data[frame + 9 :]
    content = random.choice(
        (b"Exif\0\0II*\0", b"Adobe\0d\0\0\0\0", b"ICC_PROFILE\0\1\2", b"MPF\0II*\0\x08\0\0\0", b"JFIF\0")
    )
    content += random.randbytes(random.choice((0, 1, 2, 30)))
    marker = random.choice((0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xDB, 0xC4, 0xC0, 0xDA, 0xDD, 0xFE))
    length = random.choice((len(content) + 2, 0, 1, 65_535))
    return _put(data, 2, bytes([0xFF, marker]) + struct.pack(">H", length) + content)


def _put(data: bytes, place: int, content: bytes) -> bytes:
    return data[:place] + content + data[place:]


@cache
def parquet_seeds() -> list[bytes]:
    """Shards of six pictures in groups of two, packed in the ways that writers of parquet have."""
    pictures = [{"bytes": data, "path": None} for data in picture_seeds()[:6]]
    ways: list[dict[str, Any]] = [
        {"compression": "none", "use_dictionary": False}, {"compression": "snappy"}, {"compression": "zstd"},
        {"compression": "gzip", "data_page_version": "2.0"}, {"use_dictionary": False, "write_statistics": False},
    ]  # fmt: skip
    return [_shard(_column(pictures), pa.array([0, 1, 2] * 2), way) for way in ways]


def _column(pictures: list[dict[str, Any] | None]) -> Any:
    return pa.array(pictures, COLUMN)


def _shard(images: Any, labels: Any, way: dict[str, Any], rows: int = 2) -> bytes:
    stream = io.BytesIO()
    parquet.write_table(pa.table({"image": images, "label": labels}), stream, row_group_size=rows, **way)
    return stream.getvalue()


def mutate_parquet(data: bytes, random: Random, others: list[bytes]) -> bytes:
    """Other bytes of the pages or of the footer, or a whole shard of other columns."""
    chance = random.random()
    if chance < 0.25:
        return random.choice(_OTHER_SHARDS)(random)[:LARGEST]
    length = int.from_bytes(data[-8:-4], "little")
    if data[-4:] != b"PAR1" or not 0 < length < len(data) - 12 or chance < 0.4:
        return bytes_changed(data, random)
    pages, footer = data[: -8 - length], data[-8 - length : -8]
    if chance < 0.55:
        return (bytes_changed(pages, random) + footer + data[-8:])[-LARGEST:]
    footer = bytes_changed(footer, random)
    return pages + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def _other_pictures(random: Random) -> bytes:
    seeds = picture_seeds()
    data = [mutate_picture(random.choice(seeds), random, seeds)[:4096] for _ in range(3)]
    cells = [random.choice((None, {"bytes": None, "path": "/etc/passwd"}, {"bytes": one})) for one in data]
    return _shard(_column(cells), pa.array([0] * 3), {})


def _other_labels(random: Random) -> bytes:
    count = random.choice((0, 1, 3))
    labels = random.choice((
        pa.array([random.choice(INTERESTING[:-3])] * count, pa.int64()), pa.array([None] * count, pa.int64()),
        pa.array([2**64 - 1] * count, pa.uint64()), pa.array([0.5] * count), pa.array(["a"] * count),
        pa.array([[1]] * count), pa.array([1] * count, pa.int8()), pa.array([0] * count, pa.uint32()),
        pa.array([1] * count, pa.int64()).dictionary_encode(), pa.array([1] * count, pa.timestamp("s")),
    ))  # fmt: skip
    return _shard(_column([{"bytes": picture_seeds()[0]}] * count), labels, {})


def _many_rows(random: Random) -> bytes:
    return random.choice(_long_shards())


@cache
def _long_shards() -> list[bytes]:
    """A few hundred bytes that stand for millions of rows, and one long picture many times."""
    empty = [_shard(pa.nulls(count, COLUMN), pa.repeat(pa.scalar(0), count), {}, count) for count in (10**4, 10**6)]
    long = _column([{"bytes": picture_seeds()[0] + bytes(10**5)}] * 2000)
    return [*empty, _shard(long, pa.repeat(pa.scalar(0), 2000), {"compression": "zstd"}, 2000)]


def _other_columns(random: Random) -> bytes:
    images = random.choice((
        pa.array([b"a"]), pa.array([{"bytes": "text"}]), pa.array([{"bytes": 1}]), pa.array([{"path": "a"}]),
        pa.array([[{"bytes": b"a"}]]), pa.array([{"bytes": [b"a"]}]), pa.array([{"bytes": {"bytes": b"a"}}]),
        pa.array([{"bytes": b"a" * 4}], pa.struct([("bytes", pa.binary(4))])), pa.array([{}], pa.struct([])),
    ))  # fmt: skip
    try:
        return _shard(images, pa.array([0]), {})
    except pa.ArrowException:  # some of this no file can hold
        return parquet_seeds()[0]


_OTHER_SHARDS: tuple[Callable[[Random], bytes], ...] = (
    _other_pictures, _other_pictures, _other_labels, _other_columns, _many_rows,
)  # fmt: skip
