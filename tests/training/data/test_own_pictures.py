"""Pictures of one's own, as folders of classes and as data sets: the pictures that were written, and wrong ones."""

import shutil

import generated
import pytest
import torch
from torch.utils.data import TensorDataset
from torchvision.datasets import ImageFolder

from proxconnect.training.configuration import Configured
from proxconnect.training.data.modules import PictureFolder, TorchDatasets, TransformOptions
from proxconnect.training.data.pictures import DatasetError
from proxconnect.training.runs import fit

SMALL = TransformOptions(image_size=16)


def labels_seen(pictures) -> torch.Tensor:
    """Of each generated picture, whose class is its brightness."""
    means = [torch.frombuffer(bytearray(pictures.open(i).tobytes()), dtype=torch.uint8).float().mean()
             for i in range(len(pictures.labels))]  # fmt: skip
    return (torch.stack(means) / 60).long()


@pytest.fixture
def folder(tmp_path):
    generated.write_imagenet_folder(tmp_path)  # train and val, three classes of 8 and 4
    return tmp_path


def given(monkeypatch, made):
    """Data sets of user code that returns `made`."""
    monkeypatch.setattr(generated, "own_data", lambda: made, raising=False)
    return TorchDatasets("generated:own_data", transform=SMALL)


def test_a_folder_of_classes_is_parted_by_class_into_pictures_to_train_and_to_test_on(folder):
    splits = PictureFolder(root=folder / "train", test_share=0.25, transform=SMALL).read()
    assert splits.classes == 3
    for pictures, count in ((splits.train, 6), (splits.test, 2)):
        assert pictures.labels.bincount().tolist() == [count] * 3
        assert torch.equal(labels_seen(pictures), pictures.labels)
    assert not set(splits.train.rows.tolist()) & set(splits.test.rows.tolist())


@pytest.mark.parametrize("name", ["val", "test"])
def test_folders_that_are_parted_already_stay_so(folder, name):
    (folder / "val").rename(folder / name)
    splits = PictureFolder(root=folder, transform=SMALL).read()
    assert (len(splits.train.labels), len(splits.test.labels)) == (24, 12)


def test_three_folders_are_pictures_to_train_to_validate_and_to_test_on(folder):
    shutil.copytree(folder / "val", folder / "test")
    next((folder / "test").rglob("*.JPEG")).unlink()
    data = PictureFolder(root=folder, transform=SMALL, batch_size=8, eval_batch_size=100)
    loaders = data.train_dataloader().batches, data.val_dataloader(), data.test_dataloader()
    assert [len(loader.labels) for loader in loaders] == [24, 12, 11]
    assert [len(labels) for loader in loaders[1:] for _, labels in loader] == [12, 11]
    with pytest.raises(DatasetError, match=r"val has the pictures to validate on: leave out --data.validation"):
        PictureFolder(root=folder, transform=SMALL, validation=4).setup()


@pytest.mark.parametrize("with_targets", [True, False])
def test_a_data_set_of_pil_images_gives_what_its_folder_gives(folder, monkeypatch, with_targets):
    dataset = ImageFolder(folder / "train")
    seen = dataset if with_targets else torch.utils.data.ConcatDataset([dataset])
    ours = given(monkeypatch, seen).read()
    theirs = PictureFolder(root=folder / "train", transform=SMALL).read()
    for part in ("train", "test"):
        assert torch.equal(getattr(ours, part).labels, getattr(theirs, part).labels)
        assert getattr(ours, part).open(1).tobytes() == getattr(theirs, part).open(1).tobytes()


def test_a_pair_of_data_sets_of_tensors_trains_and_is_tested(monkeypatch):
    grey = torch.randint(256, (40, 1, 20, 24), dtype=torch.uint8)
    data = given(monkeypatch, [TensorDataset(grey, torch.arange(40) % 4), TensorDataset(grey[:8], torch.arange(8) % 2)])
    splits = data.read()
    assert (splits.classes, len(splits.train.labels), len(splits.test.labels)) == (4, 40, 8)
    image = splits.train.open(3)
    assert (image.mode, image.size) == ("RGB", (24, 20))
    assert image.getchannel("G").tobytes() == bytes(grey[3, 0].flatten().tolist())


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (7, "returned int; expected a data set"),
        ([], "returned list; expected a data set with a length, or two"),
        (TensorDataset(torch.zeros(0, 3, 4, 4), torch.zeros(0)), "at least 1 picture"),
        (TensorDataset(torch.zeros(4, 3, 4, 4), torch.rand(4)), r"whole numbers as classes.*float32 \(4,\)"),
        (TensorDataset(torch.zeros(4, 3, 4, 4), torch.zeros(4, dtype=torch.int64)), "from 0 to 0"),
        (TensorDataset(torch.zeros(4, 3, 4, 4)), r"\[0\] is tuple; expected a pair"),
    ],
)
def test_wrong_data_sets_are_refused(monkeypatch, made, words):
    with pytest.raises(DatasetError, match=words):
        given(monkeypatch, made).setup()


def test_pictures_that_a_transform_made_floats_are_refused(monkeypatch):
    data = given(monkeypatch, TensorDataset(torch.zeros(8, 3, 4, 4), torch.arange(8) % 2))
    with pytest.raises(DatasetError, match=r"gives Tensor of float32 \(3, 4, 4\); expected a PIL image or uint8"):
        data.read().train.open(0)


@pytest.mark.parametrize(("removed", "problem"), [("val", "no val or test"), ("train", "fewer than two folders")])
def test_folders_without_classes_are_refused_with_the_layout(folder, removed, problem):
    shutil.rmtree(folder / removed)
    with pytest.raises(DatasetError, match=rf"(?s)no pictures in .*{problem}.*a folder for each class.*found: "):
        PictureFolder(root=folder).read()


def test_the_share_of_the_test_set_is_checked():
    with pytest.raises(ValueError, match=r"test_share=1.5 must be between 0 and 1"):
        PictureFolder(test_share=1.5)


def test_fit_trains_a_binary_network_on_a_folder(folder):
    run = Configured({
        "data": {"class_path": "PictureFolder",
                 "init_args": {"root": str(folder / "train"), "batch_size": 6, "transform": {"image_size": 16}}},
        "model": {"network": {"name": "resnet20", "options": {"width": 4}}, "binary": {"weights": "bnn++"}},
        "trainer": {"max_epochs": 1, "default_root_dir": str(folder / "run"), "logger": False, "accelerator": "cpu",
                    "enable_progress_bar": False},
    })  # fmt: skip
    fit(run)
    assert run.model.network.head.out_features == 3
    assert 0 <= run.model.curve[-1]["accuracy"] <= 1
