"""ImageNet as folders and as parquet shards: the pictures that were written, and what is said of wrong ones."""

import shutil

import generated
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from proxconnect.training.data.errors import DatasetError
from proxconnect.training.data.sources.imagenet import read_imagenet


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
    splits = read_imagenet(tmp_path)
    assert splits.classes == 3
    for pictures, count in ((splits.train, 24), (splits.test, 12)):
        assert pictures.labels.bincount().tolist() == [count // 3] * 3
        assert torch.equal((brightness(pictures) / 60).long(), pictures.labels)


def test_files_are_in_the_order_of_their_names_and_other_files_do_not_count(tmp_path):
    generated.write_imagenet_folder(tmp_path, classes=2, train=3, test=1)
    inner = tmp_path / "train" / "n00000001"
    (inner / "readme.txt").write_text("no picture")
    (inner / "with ü.jpg").write_bytes((inner / "n00000001_0.JPEG").read_bytes())
    pictures = read_imagenet(tmp_path).train
    assert pictures.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert pictures.open(6).size == pictures.open(3).size


def test_few_row_groups_are_kept_and_each_is_read_once_while_it_is(tmp_path, monkeypatch):
    from proxconnect.training.data import order
    from proxconnect.training.data.sources import parquet as shards

    monkeypatch.setattr(order, "WINDOW", 8)
    reads = []
    compressed = shards._compressed
    monkeypatch.setattr(shards, "_compressed", lambda *place: reads.append(place) or compressed(*place))
    generated.write_imagenet_parquet(tmp_path, train=24, rows=4)
    pictures = read_imagenet(tmp_path / "data").train
    assert pictures.blocks.tolist() == [block for block in range(6) for _ in range(4)]
    for index in (0, 5, 1, 4, 9, 0, 13, 17, 0, 5):
        pictures.open(index)
    assert len(reads) == 6
    assert len(pictures._kept) == 3


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
        read_imagenet(tmp_path).train.open(0)


def test_a_wrong_folder_gets_both_layouts(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(DatasetError, match=r"(?s)no ImageNet in .*folder val .*n01440764.*parquet.*found: train/"):
        read_imagenet(tmp_path)


def test_validation_pictures_that_nobody_sorted_into_classes(tmp_path):
    generated.write_imagenet_folder(tmp_path)
    shutil.rmtree(tmp_path / "val")
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG").touch()
    with pytest.raises(DatasetError, match=r"val has no folder in it.*valprep.sh"):
        read_imagenet(tmp_path)


def test_classes_of_one_split_alone_and_empty_classes(tmp_path):
    generated.write_imagenet_folder(tmp_path)
    (tmp_path / "val" / "n00000009").mkdir()
    with pytest.raises(DatasetError, match=r"different classes: n00000009 is in one alone \(1 in all\)"):
        read_imagenet(tmp_path)
    (tmp_path / "train" / "n00000009").mkdir()
    with pytest.raises(DatasetError, match=r"n00000009 holds no picture"):
        read_imagenet(tmp_path)


def test_shards_that_are_missing_damaged_or_of_something_else(tmp_path):
    generated.write_imagenet_parquet(tmp_path, shards=3)
    folder = tmp_path / "data"
    last = folder / "train-00002-of-00003.parquet"
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(DatasetError, match=r"train-00002-of-00003.parquet is truncated or damaged"):
        read_imagenet(tmp_path)
    last.unlink()
    with pytest.raises(DatasetError, match=r"has 2 of 3 shards train-\*.parquet"):
        read_imagenet(tmp_path)
    parquet.write_table(pa.table({"text": ["a"], "label": [1]}), last)
    with pytest.raises(DatasetError, match=r"has columns text: string, label: int64; expected image"):
        read_imagenet(tmp_path)
    image = pa.array([{"bytes": b"", "path": ""}])
    for label, match in ((-1, "below 0"), (None, "without a label")):
        parquet.write_table(pa.table({"image": image, "label": pa.array([label], pa.int64())}), last)
        with pytest.raises(DatasetError, match=match):
            read_imagenet(tmp_path)
