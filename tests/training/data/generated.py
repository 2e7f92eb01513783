"""Small data sets in exactly the file formats of the published ones, with pictures that tell their class."""

import gzip
import io
import json
import pickle
import struct
from pathlib import Path

import numpy as np
from PIL import Image


def write_fashion_mnist(folder: Path, train: int = 100, test: int = 40, compress: bool = False) -> None:
    """Four IDX files in `folder`."""
    for prefix, count in (("train", train), ("t10k", test)):
        images, labels = _pictures(count, (28, 28), classes=10)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            content = header + array.astype(np.uint8).tobytes()
            path = folder / f"{prefix}-{kind}-ubyte{'.gz' if compress else ''}"
            path.write_bytes(gzip.compress(content, 1) if compress else content)


def write_cifar10(folder: Path, train: int = 100, test: int = 40) -> None:
    """cifar-10-batches-py in `folder`: five batches of `train` / 5 pictures, and the test batch."""
    inner = folder / "cifar-10-batches-py"
    inner.mkdir(parents=True)
    images, labels = _pictures(train, (3, 32, 32), classes=10)
    for number in range(5):
        part = slice(number * train // 5, (number + 1) * train // 5)
        _write_batch(inner / f"data_batch_{number + 1}", images[part], {b"labels": labels[part].tolist()})
    images, labels = _pictures(test, (3, 32, 32), classes=10)
    _write_batch(inner / "test_batch", images, {b"labels": labels.tolist()})


def write_cifar100(folder: Path, train: int = 200, test: int = 100) -> None:
    """cifar-100-python in `folder`."""
    inner = folder / "cifar-100-python"
    inner.mkdir(parents=True)
    for name, count in (("train", train), ("test", test)):
        images, labels = _pictures(count, (3, 32, 32), classes=100)
        kinds = {b"fine_labels": labels.tolist(), b"coarse_labels": (labels // 5).tolist()}
        _write_batch(inner / name, images, kinds)


def write_imagenet_folder(folder: Path, classes: int = 3, train: int = 8, test: int = 4) -> None:
    """train/CLASS/*.JPEG and val/CLASS/*.JPEG in `folder`: so many of each class, of several sizes."""
    for split, count in (("train", train), ("val", test)):
        for label in range(classes):
            inner = folder / split / f"n{label:08}"
            inner.mkdir(parents=True)
            for number in range(count):
                (inner / f"n{label:08}_{number}.JPEG").write_bytes(_jpeg(label, number))


def write_imagenet_parquet(
    folder: Path, classes: int = 3, train: int = 24, test: int = 12, shards: int = 2, rows: int = 4
) -> None:
    """data/train-*.parquet and data/validation-*.parquet in `folder`, in groups of so many rows."""
    import pyarrow as pa
    from pyarrow import parquet

    (folder / "data").mkdir(parents=True)
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {
        "image": {"_type": "Image"},
        "label": {"names": [str(n) for n in range(classes)], "_type": "ClassLabel"},
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = pa.schema([("image", image), ("label", pa.int64())], metadata=metadata)
    for split, count in (("train", train), ("validation", test)):
        numbers = [list(range(shard, count, shards)) for shard in range(shards)]
        for shard, part in enumerate(numbers):
            cells = [{"bytes": _jpeg(number % classes, number), "path": f"{number}.JPEG"} for number in part]
            table = pa.table([pa.array(cells, image), [number % classes for number in part]], schema=schema)
            path = folder / "data" / f"{split}-{shard:05}-of-{shards:05}.parquet"
            parquet.write_table(table, path, row_group_size=rows)


def _pictures(count: int, shape: tuple[int, ...], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise whose brightness grows with the class; classes take turns."""
    labels = np.arange(count) % classes
    noise = np.random.default_rng(count).integers(0, 56, (count, *shape))
    brightness = (labels * 200 // classes).reshape(-1, *(1 for _ in shape))
    return (noise + brightness).astype(np.uint8), labels


def _write_batch(path: Path, images: np.ndarray, labels: dict[bytes, list[int]]) -> None:
    names = [f"{number}.png".encode() for number in range(len(images))]
    content = {b"batch_label": b"a batch", **labels, b"data": images.reshape(len(images), -1), b"filenames": names}
    path.write_bytes(pickle.dumps(content, protocol=2))


def _jpeg(label: int, number: int) -> bytes:
    size = (40 + number % 3, 48 - number % 5, 3)
    noise = np.random.default_rng(number).integers(0, 56, size)
    stream = io.BytesIO()
    Image.fromarray((noise + 60 * label).clip(0, 255).astype(np.uint8)).save(stream, "JPEG")
    return stream.getvalue()
