"""Batch files of CIFAR: written by any numpy are read; what could run is refused."""

import os
import pickle
import random
from contextlib import suppress

import generated
import numpy as np
import pytest
import torch

from proxconnect.training.data.modules import Cifar10, Cifar100
from proxconnect.training.data.modules.cifar import read_batch
from proxconnect.training.data.pictures import DatasetError

PYTHON_2 = (
    b"\x80\x02}q\x01U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87R"
    b"(K\x01K\x02K\x03\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    b"\x89U\x06abcdeftbsU\x06labels]q\x05(K\x06K\x09es."
)
"""What Python 2 and its numpy wrote for {"data": an array of 2 x 3, "labels": [6, 9]}."""


def test_a_pickle_of_python_2(tmp_path):
    (tmp_path / "batch").write_bytes(PYTHON_2)
    batch = read_batch(tmp_path / "batch")
    assert batch["labels"] == [6, 9]
    assert batch["data"].tolist() == [[97, 98, 99], [100, 101, 102]]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_protocol_of_python_3(tmp_path, protocol, order):
    array = np.asarray(np.random.default_rng(0).integers(0, 256, (4, 5), np.uint8), order=order)
    (tmp_path / "batch").write_bytes(pickle.dumps({"data": array, b"text": b"\xff"}, protocol=protocol))
    batch = read_batch(tmp_path / "batch")
    assert torch.equal(batch["data"], torch.from_numpy(array.copy()))
    assert batch["text"] == b"\xff"


class Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "call",
    [
        Call(os.system, "touch ran"),
        Call(eval, "open('ran', 'w')"),
        Call(np.load, "ran"),
        Call(torch.load, "ran"),
        Call(np.ndarray.tofile, np.zeros(1), "ran"),
        Call(getattr, {}, "clear"),
    ],
)
def test_what_could_run_is_refused(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "batch").write_bytes(pickle.dumps({"data": call}, protocol=2))
    with pytest.raises(DatasetError, match=r"asks for .*refused"):
        read_batch(tmp_path / "batch")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps([1, 2]), "holds a list, expected a dict"),
        (pickle.dumps({"data": np.zeros((2, 2))}), "its array is of 'f8'"),
        (pickle.dumps({"data": np.zeros(2, object)}), "its array is of 'O8'"),
        (PYTHON_2.replace(b"K\x02K\x03\x86c", b"K\x03K\x03\x86c"), r"shape \(3, 3\) has 6 bytes"),
        (b"", "damaged"),
        (b"\x89PNG\r\n", "no batch of CIFAR|damaged"),
    ],
)
def test_other_pickles_are_refused(tmp_path, content, message):
    (tmp_path / "batch").write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        read_batch(tmp_path / "batch")


def test_damage_anywhere_ends_in_our_error_or_in_another_batch(tmp_path):
    path, chance = tmp_path / "batch", random.Random(0)
    for _ in range(400):
        content = bytearray(PYTHON_2)
        for _ in range(chance.randint(1, 3)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content[: chance.choice([len(content), chance.randrange(len(content))])])
        with suppress(DatasetError):
            read_batch(path)


def test_cifar_has_the_pictures_that_were_written(tmp_path):
    generated.write_cifar10(tmp_path, train=50, test=20)
    generated.write_cifar100(tmp_path, train=200, test=100)
    ten, hundred = Cifar10(root=tmp_path).read(), Cifar100(root=tmp_path / "cifar-100-python").read()
    assert ten.train.images.shape == (50, 3, 32, 32)
    assert ten.train.labels.tolist() == 5 * list(range(10))
    third = pickle.loads((tmp_path / "cifar-10-batches-py" / "data_batch_3").read_bytes(), encoding="bytes")
    assert torch.equal(ten.train.images[20:30].flatten(1), torch.from_numpy(third[b"data"]))
    assert hundred.test.labels.tolist() == list(range(100))
    assert hundred.classes == 100


def test_wrong_folders_of_cifar_get_the_layout(tmp_path):
    layout = r"(?s)no folder cifar-10-batches-py.*└── test_batch.*found: nothing.*download"
    with pytest.raises(DatasetError, match=layout):
        Cifar10(root=tmp_path).read()
    generated.write_cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_4").unlink()
    with pytest.raises(DatasetError, match="data_batch_4 is missing"):
        Cifar10(root=tmp_path).read()
    with pytest.raises(DatasetError, match=r"(?s)no CIFAR-100.*found: cifar-10-batches-py/"):
        Cifar100(root=tmp_path).read()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [10] * 20}, "labels from 10 to 10, expected 0 to 9"),
        ({"labels": [1] * 19}, "labels"),
        ({"labels": ["0"] * 20}, "no list of whole numbers"),
        ({"data": np.zeros((20, 3071), np.uint8)}, "shape .20, 3071."),
        ({"data": b"0"}, "'data' is no array"),
    ],
)
def test_other_batches_are_refused(tmp_path, change, message):
    generated.write_cifar10(tmp_path)
    whole = {"data": np.zeros((20, 3072), np.uint8), "labels": [1] * 20}
    (tmp_path / "cifar-10-batches-py" / "data_batch_2").write_bytes(pickle.dumps(whole | change, protocol=2))
    with pytest.raises(DatasetError, match=f"data_batch_2.*{message}"):
        Cifar10(root=tmp_path).read()


def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch):
    from torchvision.datasets import utils

    def no_network(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(utils, "download_and_extract_archive", no_network)
    with pytest.raises(DatasetError, match=r"CIFAR-10 could not be fetched into .*no route to host"):
        Cifar10(root=tmp_path, download=True).prepare_data()
