"""ImageNet as folders and as parquet shards: the pictures that were written, and what is said of wrong ones."""

import io
import os
import shutil
import struct
import zlib
from contextlib import suppress

import generated
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from fuzzing import picture_files
from proxconnect.training.data.modules import ImageNet
from proxconnect.training.data.modules.imagenet import ParquetPictures
from proxconnect.training.data.pictures import DatasetError, decoded


def brightness(pictures) -> torch.Tensor:
    """Of each picture, whose class is its brightness in the data that is generated."""
    means = []
    for index in range(len(pictures.labels)):
        image = pictures.open(index)
        assert image.mode == "RGB"
        means.append(torch.tensor(list(image.tobytes()), dtype=torch.float32).mean())
    return torch.stack(means)


@pytest.mark.parametrize("write", [generated.write_imagenet_folder, generated.write_imagenet_parquet])
def test_each_picture_has_its_own_label(tmp_path, write):
    write(tmp_path)
    splits = ImageNet(root=tmp_path).read()
    assert splits.classes == 3
    for pictures, count in ((splits.train, 24), (splits.test, 12)):
        assert pictures.labels.bincount().tolist() == [count // 3] * 3
        assert torch.equal((brightness(pictures) / 60).long(), pictures.labels)


def test_files_are_in_the_order_of_their_names_and_other_files_do_not_count(tmp_path):
    generated.write_imagenet_folder(tmp_path, classes=2, train=3, test=1)
    inner = tmp_path / "train" / "n00000001"
    (inner / "readme.txt").write_text("no picture")
    (inner / "with ü.jpg").write_bytes((inner / "n00000001_0.JPEG").read_bytes())
    pictures = ImageNet(root=tmp_path).read().train
    assert pictures.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert pictures.open(6).size == pictures.open(3).size


def test_few_row_groups_are_kept_and_each_is_read_once_while_it_is(tmp_path, monkeypatch):
    from proxconnect.training.data import loaders
    from proxconnect.training.data.modules import imagenet as shards

    monkeypatch.setattr(loaders, "WINDOW", 8)
    reads = []
    compressed = shards._compressed
    monkeypatch.setattr(shards, "_compressed", lambda *place: reads.append(place) or compressed(*place))
    generated.write_imagenet_parquet(tmp_path, train=24, rows=4)
    pictures = ImageNet(root=tmp_path / "data").read().train
    assert pictures.blocks.tolist() == [block for block in range(6) for _ in range(4)]
    for index in (0, 5, 1, 4, 9, 0, 13, 17, 0, 5):
        pictures.open(index)
    assert len(reads) == 6
    assert pictures._group.cache_info().currsize == 3


@pytest.mark.parametrize("write", [generated.write_imagenet_folder, generated.write_imagenet_parquet])
def test_a_damaged_picture_is_named(tmp_path, write):
    write(tmp_path)
    if write is generated.write_imagenet_folder:
        path = tmp_path / "train" / "n00000000" / "n00000000_0.JPEG"
        path.write_bytes(path.read_bytes()[:300])
        match = r"n00000000_0.JPEG is no picture or is damaged"
    else:
        path = next((tmp_path / "data").glob("train-00000*"))
        table = parquet.read_table(path)
        cells = [{"bytes": b"no picture", "path": None}, *table["image"].to_pylist()[1:]]
        parquet.write_table(table.set_column(0, table.schema.field(0), [cells]), path, row_group_size=4)
        match = r"train-00000-of-00002.parquet, row 0 of group 0, is no picture"
    with pytest.raises(DatasetError, match=match):
        ImageNet(root=tmp_path).read().train.open(0)


def test_a_wrong_folder_gets_both_layouts(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(DatasetError, match=r"(?s)no ImageNet in .*folder val .*n01440764.*parquet.*found: train/"):
        ImageNet(root=tmp_path).read()


def test_validation_pictures_that_nobody_sorted_into_classes(tmp_path):
    generated.write_imagenet_folder(tmp_path)
    shutil.rmtree(tmp_path / "val")
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG").touch()
    with pytest.raises(DatasetError, match=r"val needs a folder of pictures .* for each class.*valprep.sh"):
        ImageNet(root=tmp_path).read()


def test_classes_of_one_split_alone_and_empty_classes(tmp_path):
    generated.write_imagenet_folder(tmp_path)
    shutil.copytree(tmp_path / "val" / "n00000000", tmp_path / "val" / "n00000009")
    with pytest.raises(DatasetError, match=r"different classes: n00000009 is in one alone \(1 in all\)"):
        ImageNet(root=tmp_path).read()
    (tmp_path / "train" / "n00000009").mkdir()
    with pytest.raises(DatasetError, match=r"train needs a folder of pictures .* n00000009"):
        ImageNet(root=tmp_path).read()


def test_shards_that_are_missing_damaged_or_of_something_else(tmp_path):
    generated.write_imagenet_parquet(tmp_path, shards=3)
    folder = tmp_path / "data"
    last = folder / "train-00002-of-00003.parquet"
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(DatasetError, match=r"train-00002-of-00003.parquet is truncated or damaged"):
        ImageNet(root=tmp_path).read()
    last.unlink()
    with pytest.raises(DatasetError, match=r"has 2 of 3 shards train-\*.parquet"):
        ImageNet(root=tmp_path).read()
    parquet.write_table(pa.table({"text": ["a"], "label": [1]}), last)
    with pytest.raises(DatasetError, match=r"has columns text: string, label: int64; expected image"):
        ImageNet(root=tmp_path).read()
    image = pa.array([{"bytes": b"", "path": ""}])
    for label, match in ((-1, "below 0"), (None, "without a label")):
        parquet.write_table(pa.table({"image": image, "label": pa.array([label], pa.int64())}), last)
        with pytest.raises(DatasetError, match=match):
            ImageNet(root=tmp_path).read()


def test_a_program_that_calls_itself_a_picture_is_not_run(tmp_path, monkeypatch):
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # where Pillow looks for it anew
    path = tmp_path / "picture.jpeg"
    path.write_bytes(picture_files.POSTSCRIPT)
    with pytest.raises(DatasetError, match="is no picture"):
        decoded(path, "picture")
    assert not (tmp_path / "ran").exists()
    with suppress(OSError), Image.open(path) as image:  # Pillow by itself
        image.load()
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["iCCP", "PLTE"])
def test_a_png_of_which_pillow_fails_in_errors_of_its_own(name):
    data = picture_files.picture_seeds()[4]
    profile = struct.pack(">I4sI", 0, b"iCCP", zlib.crc32(b"iCCP"))
    begin = data.index(b"PLTE") - 4
    end = begin + 12 + int.from_bytes(data[begin : begin + 4], "big")
    damaged = data[:-12] + profile + data[-12:] if name == "iCCP" else data[:begin] + data[end:]
    with pytest.raises(DatasetError, match=r"picture is no picture or is damaged \(.+\)"):
        decoded(io.BytesIO(damaged), "picture")


def test_a_picture_that_claims_too_many_pixels_is_refused_before_there_is_room_for_it():
    picture = picture_files.picture_seeds()[4]
    size = struct.pack(">2I", 9460, 9460)
    header = b"IHDR" + size + picture[24:29]
    large = picture[:12] + header + struct.pack(">I", zlib.crc32(header)) + picture[33:]
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(DatasetError, match="9460 x 9460 pixels, more"):
        decoded(io.BytesIO(large), "picture")


def test_a_picture_in_many_rows_is_held_once(tmp_path):
    picture = generated._jpeg(0, 0) + bytes(20_000)  # what follows a picture's end is not looked at
    path = tmp_path / "train-0.parquet"
    image = pa.array([{"bytes": picture, "path": None}] * 2000)
    parquet.write_table(pa.table({"image": image, "label": pa.array([0] * 2000)}), path)
    pictures = ParquetPictures([path])
    assert pictures.open(1999).mode == "RGB"
    assert pictures._group(0).nbytes < 2 * len(picture)


@pytest.mark.parametrize(("rows", "match"), [(0, "hold no picture"), (10**6, "claims 1000000 pictures in")])
def test_shards_without_pictures(tmp_path, rows, match):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.nulls(rows, kind), "label": pa.repeat(pa.scalar(0), rows)})
    path = tmp_path / "train-0.parquet"
    parquet.write_table(table, path)
    with pytest.raises(DatasetError, match=match):
        ParquetPictures([path])


@pytest.mark.parametrize("content", ["text", 1, [b"a"]], ids=str)
def test_shards_whose_pictures_are_no_bytes(tmp_path, content):
    path = tmp_path / "train-0.parquet"
    parquet.write_table(pa.table({"image": pa.array([{"bytes": content}]), "label": pa.array([0])}), path)
    with pytest.raises(DatasetError, match="expected image: struct<bytes"):
        ParquetPictures([path])
