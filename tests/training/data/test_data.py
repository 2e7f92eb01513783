"""The IDX reader against files that another writer made, and the data sets against what their sources state."""

import gzip
import struct

import generated
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from proxconnect.training import data


def idx(tensor: torch.Tensor, kind: int = 0x08) -> bytes:
    header = bytes([0, 0, kind, tensor.dim()]) + b"".join(struct.pack(">I", size) for size in tensor.shape)
    return header + bytes(tensor.flatten().tolist())


@settings(max_examples=40, deadline=None)
@given(shape=st.lists(st.integers(1, 5), min_size=1, max_size=4), compress=st.booleans(), seed=st.integers(0, 99))
def test_idx_round_trip(tmp_path_factory, shape, compress, seed):
    expected = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    path = tmp_path_factory.mktemp("idx") / "any-name"
    path.write_bytes(gzip.compress(idx(expected)) if compress else idx(expected))
    assert torch.equal(data.read_idx(path), expected)


WHOLE = idx(torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize("length", range(len(WHOLE)))
def test_every_truncation_is_refused(tmp_path, length):
    path = tmp_path / "file"
    path.write_bytes(WHOLE[:length])
    with pytest.raises(data.DatasetError, match=r"truncated|no IDX file"):
        data.read_idx(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (WHOLE + b"\0", "damaged"),
        (b"\0\0\x0d" + WHOLE[3:], "no IDX file of unsigned bytes"),
        (b"\0\1" + WHOLE[2:], "no IDX file"),
        (b"\0\0\x08\0", "no IDX file"),
        (b"\0\0\x08\xff" + bytes(2000), "no IDX file"),
        (struct.pack(">HBBII", 0, 8, 2, 0xFFFFFFFF, 0xFFFFFFFF), "truncated"),
        (struct.pack(">HBBII", 0, 8, 2, 0, 5), "damaged"),
        (gzip.compress(WHOLE, mtime=0)[:-12], "truncated or damaged"),
        (gzip.compress(WHOLE, mtime=0)[:20] + b"\xff" * 30, "truncated or damaged"),
    ],
)
def test_damaged_files_are_refused(tmp_path, content, message):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(data.DatasetError, match=message):
        data.read_idx(path)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(data.DatasetError, match=r"nowhere cannot be read: No such file"):
        data.read_idx(tmp_path / "nowhere")


def test_digits_are_standardised_stratified_and_always_the_same():
    digits = data.load("digits")
    assert digits.train_images.shape == (1347, 1, 8, 8)
    assert digits.test_images.shape == (450, 1, 8, 8)
    assert digits.train_images.dtype == torch.float32
    assert digits.train_labels.dtype == torch.int64
    assert digits.train_images.mean().abs() < 1e-5
    assert (digits.train_images.std() - 1).abs() < 1e-5
    shares = digits.test_labels.bincount() / 450 - digits.train_labels.bincount() / 1347
    assert shares.abs().max() < 2 / 450
    assert torch.equal(digits.test_images, data.load("digits").test_images)


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    def rows(images):
        return sorted(map(tuple, images.flatten(1).tolist()))

    digits = data.load("digits")
    ours = torch.cat([digits.train_images, digits.test_images])
    ink = (ours - ours.min()) * (16 / (ours.max() - ours.min()))
    assert rows(ink.round()) == rows(torch.from_numpy(load_digits().images).float())


@pytest.mark.parametrize("compress", [False, True])
def test_fashion_mnist_from_files(tmp_path, compress):
    generated.write_fashion_mnist(tmp_path, train=50, test=20, compress=compress)
    fashion = data.load("fashion-mnist", tmp_path)
    assert fashion.train_images.shape == (50, 1, 28, 28)
    assert fashion.test_labels.tolist() == 2 * list(range(10))
    pixels = data.read_idx(next(tmp_path.glob("train-images*"))).double()
    expected = ((pixels - pixels.mean()) / pixels.std()).float()
    torch.testing.assert_close(fashion.train_images.squeeze(1), expected, rtol=1e-6, atol=1e-7)


def test_a_wrong_folder_gets_the_layout_and_the_package(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").mkdir()
    with pytest.raises(data.DatasetError) as error:
        data.load("fashion-mnist", tmp_path)
    for part in (
        "t10k-labels-idx1-ubyte",
        "found: train-images-idx3-ubyte/",
        "--root",
        "install dataset-fashion-mnist",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train-labels-idx1", torch.full((100,), 10, dtype=torch.uint8)),
        ("train-labels-idx1", torch.zeros(99, dtype=torch.uint8)),
        ("t10k-images-idx3", torch.zeros(40, 28, 27, dtype=torch.uint8)),
    ],
)
def test_other_data_in_the_same_files_is_refused(tmp_path, name, content):
    generated.write_fashion_mnist(tmp_path)
    (tmp_path / f"{name}-ubyte").write_bytes(idx(content))
    with pytest.raises(data.DatasetError, match="does not hold Fashion-MNIST"):
        data.load("fashion-mnist", tmp_path)


def test_unknown_data_set():
    with pytest.raises(data.DatasetError, match="known are 'digits' and 'fashion-mnist'"):
        data.load("mnist")
