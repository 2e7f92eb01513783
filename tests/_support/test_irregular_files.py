"""What is no file of the usual kind: links, pipes, devices, folders, and files that claim or repeat without end."""

import gzip
import io
import json
import os
import sys
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import proxconnect as pc
from fuzzing import packed_files, text_files
from fuzzing.checkpoint_files import shared_lists
from fuzzing.law import HUNG, Reader, was_read
from fuzzing.readers import READERS
from fuzzing.seeded import warm
from proxconnect.deploy.checkpoints import CheckpointError, read
from proxconnect.deploy.packed import PackedFileError
from proxconnect.huggingface import ProxConnectConfig
from proxconnect.inspection import memory
from proxconnect.training.data.pictures import DatasetError, decoded
from proxconnect.training.study import yaml_files
from proxconnect.training.study.yaml_files import GridError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pipes, devices and /proc are Linux's")

OURS = [reader for reader in READERS.values() if reader.name != "configuration"]  # which transformers reads


def refused(reader: Reader, path: Path) -> Exception:
    """What the reader answers to the file at `path`, under the law's alarm and bounds."""
    warm(reader, path.with_name(f"good{reader.suffix}"))
    answers: list[Exception] = []

    def read_it(_: Path, into: object) -> None:
        try:
            reader.read(path, into)
        except (ValueError, OSError) as error:
            answers.append(error)
            raise

    other = Reader(reader.name, read_it, reader.seeds, reader.mutate, reader.into, reader.state_of)
    assert HUNG < 60
    assert not was_read(other, b"", path.with_name("nothing"))
    return answers[0]


@pytest.mark.parametrize("reader", OURS, ids=lambda reader: reader.name)
@pytest.mark.parametrize("kind", ["pipe", "zeros", "folder", "dangling", "loop", "link to a pipe"])
def test_what_is_no_file_is_refused_at_once(reader: Reader, kind: str, tmp_path: Path) -> None:
    path, pipe = tmp_path / f"path{reader.suffix}", tmp_path / "pipe"
    os.mkfifo(pipe)
    target = {"zeros": Path("/dev/zero"), "dangling": tmp_path / "no", "loop": path, "link to a pipe": pipe}.get(kind)
    if kind == "folder":
        path.mkdir()
    elif target is None:
        os.mkfifo(path)
    else:
        path.symlink_to(target)
    if reader.name == "ledger" and kind in ("dangling", "loop"):
        assert reader.read(path, None) == []  # a study that has not begun
        return
    assert str(refused(reader, path))


@pytest.mark.parametrize("reader", OURS, ids=lambda reader: reader.name)
def test_a_link_to_a_file_is_that_file(reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(reader.seeds()[2 if reader.name == "run" else 0])
    (tmp_path / f"link{reader.suffix}").symlink_to(tmp_path / "file")
    reader.read(tmp_path / f"link{reader.suffix}", reader.into)


def test_pictures_in_pipes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DatasetError, match="pipe"):
        decoded(tmp_path / "a.png", "a.png")


@pytest.mark.parametrize("size", [2**32, 2**40])
@pytest.mark.parametrize("name", ["first.bits", "else"])
def test_a_sparse_file_that_claims_far_too_much(name: str, size: int, tmp_path: Path) -> None:
    path, whole = tmp_path / "large.safetensors", packed_files.seeds()[1]
    memory.reset_peak()
    before = memory.own_peak()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    end = len(whole) - 8 - length
    metadata = header["__metadata__"]["proxconnect"].replace('"version":3', '"version":2')  # which has no checksum
    header["__metadata__"] = {"proxconnect": metadata}
    header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [end, end + size]}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])
    os.truncate(path, 8 + len(text) + end + size)
    with pytest.raises((PackedFileError, OSError), match=r"large\.safetensors"):
        pc.load(path, packed_files.Small())
    assert memory.own_peak() < before + (64 << 20)


@pytest.mark.parametrize("number", ["1e999", "NaN", "-1e999"])
def test_offsets_that_are_no_numbers(number: str, tmp_path: Path) -> None:
    path, header = tmp_path / "a.safetensors", b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,%s]}}'
    text = header % number.encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(PackedFileError, match="damaged"):
        pc.load(path, packed_files.Small())


@pytest.mark.parametrize("zipped", [True, False])
def test_lists_that_hold_each_other_without_end(zipped: bool, tmp_path: Path) -> None:
    torch.save(
        {"w": torch.ones(2), "lists": shared_lists(40)}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(CheckpointError, match="too many times over"):
        read(tmp_path / "a.pt")


def test_a_tensor_alone_and_one_in_many_places(tmp_path: Path) -> None:
    torch.save([torch.ones(2)] * 2000, tmp_path / "a.pt")
    assert len(read(tmp_path / "a.pt").tensors) == 2000
    torch.save(torch.ones(2), tmp_path / "b.pt")
    assert list(read(tmp_path / "b.pt").tensors) == [""]


def test_an_archive_that_is_larger_within(tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save({"w": torch.zeros(1 << 20)}, stream)
    with zipfile.ZipFile(stream) as old, zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.infolist():
            new.writestr(part.filename, old.read(part))
    with pytest.raises(CheckpointError, match="archive"):
        read(tmp_path / "a.pt")


@pytest.mark.parametrize("text", [
    "a: &a [1]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise("abcdefghijklmnopqrstuvwxyz")),
    "a: &a [*a]", "a: " + "[" * 3000, "a: " + "[" * 200 + "]" * 200, "a" + ".a" * 200 + ": 1",
    "a: !!bool x", "a: !!int x",
    "a: !!timestamp x", "a: 2024-13-45", "a: !!map x", "a: !!map [x]", "a: 1:1:1" + ":59" * 400 + ".5", "? [a]\n: b",
], ids=["aliases", "itself", "open", "deep", "dots", "bool", "int", "time", "date", "map", "list", "sixties",
        "key"])  # fmt: skip
def test_yaml_that_says_too_much_or_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(GridError, match=r"a\.yaml"):
        yaml_files.read(tmp_path / "a.yaml")


def test_many_keys_take_no_square_of_their_number(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("\n".join(f"k{i}: 1" for i in range(3000)) + "\nb: &b {c: [1]}\nd: [*b, *b]\n")
    content = yaml_files.read(tmp_path / "a.yaml")
    assert len(content) == 3002
    assert content["d"] == [{"c": [1]}] * 2


@pytest.mark.parametrize("change", [
    {"weights": None}, {"weights": ["bc"]}, {"weights": {"*": ["bc"]}}, {"activations": 3}, {"keep": 3}, {"keep": [1]},
    {"accumulator": "x"}, {"accumulator": {"bits": 8, "": 1}}, {"accumulator": {"slope": "1"}}, {"layers": ["first"]},
    {"layers": {"first": 3}}, {"layers": {"first": ["bc"]}}, {"layers": {"first": [None, None]}},
    {"layers": {"first": ["bc", "?"]}}, {"self": 1},
], ids=str)  # fmt: skip
def test_configurations_that_no_network_has(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(change)) if "self" not in change else "knows no self"):
        ProxConnectConfig.from_dict(text_files.CONFIGURATIONS[1] | change)


def test_a_compressed_file_of_bytes_says_its_size_first(tmp_path: Path) -> None:
    reader = READERS["idx"]
    (tmp_path / "a").write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x04" + bytes(100 << 20), compresslevel=6, mtime=0))
    assert "a" in str(refused(reader, tmp_path / "a"))


def test_an_array_of_a_pickle_that_says_it_is_large(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\x80\x05\x96" + (2**30).to_bytes(8, "little") + b"1.")
    assert "a" in str(refused(READERS["cifar"], tmp_path / "a"))
