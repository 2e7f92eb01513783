"""ImageNet, as folders of classes or as parquet shards."""

import io
import re
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from proxconnect._support import extras
from proxconnect._support.paths import require_regular
from proxconnect.training.data.loaders import blocks_in_window
from proxconnect.training.data.modules.folders import splits_of
from proxconnect.training.data.modules.photos import Photos
from proxconnect.training.data.pictures import DatasetError, Pictures, Splits, decoded, wrong_folder

LAYOUT = """
├── train
│   ├── n01440764                      a folder for each class
│   │   └── n01440764_10026.JPEG       pictures, of any name
│   └── ...
└── val
    ├── n01440764                      the same classes
    └── ...
or, as Hugging Face has it,
└── data
    ├── train-00000-of-00294.parquet   columns image {bytes, path} and label
    └── validation-00000-of-00014.parquet
"""
ADVICE = (
    "Give the folder as root (--data.root). ImageNet is not fetched, since its terms must be accepted: see "
    "https://image-net.org/download.php or https://huggingface.co/datasets/ILSVRC/imagenet-1k"
)


class ParquetPictures(Pictures):
    """Pictures in parquet `shards` of Hugging Face, whose row groups are the `blocks`; DatasetError for wrong files."""

    blocks: Tensor

    def __init__(self, shards: Sequence[Path]) -> None:
        parts = [_sizes_and_labels(path) for path in shards]
        self._groups = [(path, group) for path, (sizes, _) in zip(shards, parts, strict=True)
                        for group in range(len(sizes))]  # fmt: skip
        sizes = torch.tensor([size for sizes, _ in parts for size in sizes])
        self._first = sizes.cumsum(0) - sizes
        self.labels = torch.cat([labels for _, labels in parts])
        if not len(self.labels):
            raise DatasetError(f"{shards[0]} and all shards beside it hold no picture: fetch them again")
        self.blocks = torch.arange(len(sizes)).repeat_interleave(sizes)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_group"}

    def open(self, index: int) -> Image.Image:
        """Return picture `index`, decoded, as an RGB PIL image; DatasetError if it is damaged or not in the shard."""
        block = int(self.blocks[index])
        row = index - int(self._first[block])
        content = self._group(block)[row].as_py()
        path, group = self._groups[block]
        where = f"{path}, row {row} of group {group},"
        if content is None:
            raise DatasetError(f"{where} has no bytes: the picture must be in the shard, not in a file that it names")
        return decoded(io.BytesIO(content), where)

    @cached_property
    def _group(self) -> Callable[[int], Any]:
        """A function from a row group to its compressed pictures, an array of pyarrow; the latest stay in memory."""
        return lru_cache(blocks_in_window(self.blocks) + 1)(lambda block: _compressed(*self._groups[block]))


class ImageNet(Photos):
    """Data module of ImageNet: 1281167 training images of 1000 classes, and 50000 validation images as the test set.

    It takes any images in the same layout: folders of classes, or parquet shards of Hugging Face. Source: Russakovsky
    et al. 2015 (arXiv 1409.0575).
    """

    name = "imagenet"

    def read(self) -> Splits[Pictures]:
        """Return the training pictures, and the validation pictures as test set, from class folders or parquet shards.

        Pictures are decoded later. DatasetError if `root` holds neither layout, or one that is incomplete or wrong.
        """
        root = self._root
        for shards in (root, root / "data"):
            if any(shards.glob("train-*.parquet")):
                parts = [ParquetPictures(_shards(shards, split)) for split in ("train", "validation")]
                return Splits(parts[0], parts[1], 1 + int(max(part.labels.max() for part in parts)))
        missing = [name for name in ("train", "val") if not (root / name).is_dir()]
        if missing:
            problem = f"it has neither a folder {missing[0]} nor files train-*.parquet"
            raise wrong_folder("ImageNet", root, problem, LAYOUT, ADVICE)
        return splits_of(root / "train", root / "val")


def _shards(folder: Path, split: str) -> list[Path]:
    shards = sorted(folder.glob(f"{split}-*.parquet"))
    if not shards:
        raise DatasetError(f"{folder} has no shards {split}-*.parquet beside the others: fetch them too")
    counts = [re.fullmatch(r".*-(\d+)-of-(\d+)\.parquet", shard.name) for shard in shards]
    expected = max((int(count[2]) for count in counts if count), default=len(shards))
    if expected != len(shards):
        raise DatasetError(f"{folder} has {len(shards)} of {expected} shards {split}-*.parquet: fetch the others too")
    return shards


def _sizes_and_labels(path: Path) -> tuple[list[int], Tensor]:
    """Read the sizes of the row groups of a shard, and its labels, without its pictures."""
    try:
        with _opened(path) as file:
            _check_columns(path, file.schema_arrow)
            rows, size = file.metadata.num_rows, path.stat().st_size
            if rows > size:  # rows that are all alike take no room in a shard
                raise DatasetError(f"{path} claims {rows} pictures in {size} bytes: it is damaged, fetch it again")
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            column = file.read(["label"], use_threads=False)["label"]
    except (OSError, _arrow().ArrowException) as error:
        raise DatasetError(f"{path} is truncated or damaged ({error}): fetch it again") from error
    if column.null_count:
        raise DatasetError(f"{path} has pictures without a label: it cannot be trained or tested on")
    labels = torch.tensor(column.to_numpy()).to(torch.int64)
    if len(labels) and int(labels.min()) < 0:
        raise DatasetError(f"{path} has labels below 0, which stand for labels kept secret: it cannot be used")
    return sizes, labels


def _check_columns(path: Path, schema: Any) -> None:
    """Raise DatasetError unless column image has a field of bytes, and column label holds whole numbers."""
    types = {field.name: field.type for field in schema}
    kinds = _arrow().types
    image, label = types.get("image", _arrow().null()), types.get("label")
    contents = [field.type for field in image if field.name == "bytes"] if kinds.is_struct(image) else []
    contents = [kind.value_type if kinds.is_dictionary(kind) else kind for kind in contents]
    has_images = any(kinds.is_binary(kind) or kinds.is_large_binary(kind) for kind in contents)
    if not has_images or label is None or not kinds.is_integer(label):
        columns = ", ".join(f"{name}: {kind}" for name, kind in types.items())
        raise DatasetError(f"{path} has columns {columns}; expected image: struct<bytes, path> and label: int64")


def _compressed(path: Path, group: int) -> Any:
    """Read the pictures of a row group; one that many rows share is in memory once."""
    try:
        with _opened(path, shared=["image.bytes"]) as file:
            column = file.read_row_group(group, ["image"], use_threads=False)["image"]
            return column.combine_chunks().field("bytes")
    except (OSError, _arrow().ArrowException) as error:
        raise DatasetError(f"{path}, row group {group}, is damaged ({error}): fetch the shard again") from error


def _opened(path: Path, shared: Sequence[str] = ()) -> Any:
    require_regular(path)
    return extras.require("pyarrow.parquet", "train").ParquetFile(path, memory_map=True, read_dictionary=shared)


def _arrow() -> Any:
    return extras.require("pyarrow", "train")
