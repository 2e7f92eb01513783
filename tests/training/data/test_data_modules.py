"""The data modules: what they hold, and what Lightning and its command line make of them."""

from itertools import chain

import generated
import pytest
import torch
import torchvision
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from proxconnect.training.data import DatasetError, load
from proxconnect.training.data.modules import (
    Cifar10,
    Cifar100,
    Digits,
    FashionMnist,
    ImageData,
    ImageNet,
    MixupOptions,
    TransformOptions,
)

SMALL = TransformOptions(image_size=16, erasing=0.5)


@pytest.mark.parametrize(
    ("kind", "write", "options", "shape", "classes"),
    [
        (FashionMnist, generated.write_fashion_mnist, {"flip": True, "crop": 4}, (1, 28, 28), 10),
        (Cifar10, generated.write_cifar10, {"flip": True, "crop": 4}, (3, 32, 32), 10),
        (Cifar10, generated.write_cifar10, {"transform": SMALL}, (3, 16, 16), 10),
        (Cifar100, generated.write_cifar100, {}, (3, 32, 32), 100),
        (ImageNet, generated.write_imagenet_folder, {"transform": SMALL}, (3, 16, 16), 3),
        (ImageNet, generated.write_imagenet_parquet, {"transform": SMALL}, (3, 16, 16), 3),
    ],
)
def test_batches_have_the_shapes_that_the_module_states(tmp_path, kind, write, options, shape, classes):
    write(tmp_path)
    data = kind(root=tmp_path, batch_size=8, eval_batch_size=7, **options)
    data.prepare_data()
    data.setup("fit")
    assert (data.in_channels, data.image_size, data.image_size) == shape
    assert data.classes == classes
    loader = data.train_dataloader()
    assert len(loader) == len(data._splits.train.labels) // 8
    for batches in (loader, data.val_dataloader(), data.test_dataloader(), data.calibration_batches(2)):
        images, labels = next(iter(batches))
        assert images.shape == (len(labels), *shape)
        assert images.dtype == torch.float32
        assert labels.dtype == torch.int64
    tested = torch.cat([labels for _, labels in data.test_dataloader()])
    assert len(tested) == len(data._splits.test.labels)


def test_digits_are_those_of_the_plain_data_set():
    data, plain = Digits(eval_batch_size=450), load("digits")
    ((images, labels),) = data.test_dataloader()
    assert torch.equal(images, plain.test_images)
    assert torch.equal(labels, plain.test_labels)
    trained = torch.cat([images for images, _ in Digits(batch_size=449).train_dataloader()])
    assert sorted(map(tuple, trained.flatten(1).tolist())) == sorted(map(tuple, plain.train_images.flatten(1).tolist()))


def trained_on(data: ImageData) -> set[tuple[float, ...]]:
    return {tuple(image) for images, _ in data.train_dataloader() for image in images.flatten(1).tolist()}


def test_held_out_pictures_are_no_training_pictures():
    data = Digits(validation=347, subset=500, batch_size=500, split_seed=1)
    seen = trained_on(data)
    held_out = [tuple(image) for images, _ in data.val_dataloader() for image in images.flatten(1).tolist()]
    assert len(held_out) == 347
    assert not seen & set(held_out)
    assert sum(len(labels) for _, labels in data.test_dataloader()) == 450
    other_order = Digits(validation=347, subset=500, batch_size=500, split_seed=1, seed=9)
    assert seen == {
        tuple(image) for images, _ in other_order.train_dataloader() for image in images.flatten(1).tolist()
    }


def test_calibration_batches_are_the_first_of_training_as_the_network_sees_them():
    data = Digits(batch_size=64, flip=True, crop=1)
    first, again = list(data.calibration_batches(3)), list(data.calibration_batches(3))
    assert all(torch.equal(one, other) for one, other in zip(chain(*first), chain(*again), strict=True))
    assert torch.equal(first[0][0], next(iter(data.train_dataloader()))[0])
    plain = next(iter(Digits(batch_size=64).train_dataloader()))
    assert not torch.equal(first[0][0], plain[0])
    assert len(list(data.calibration_batches(1000))) == 1347 // 64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Digits(batch_size=0), "batch_size=0"),
        (lambda: Digits(batch_size=7, mixup=MixupOptions()), "batch_size=7 must be even"),
        (lambda: Digits(crop=-1), "crop=-1"),
        (lambda: Digits(flip=True, transform=SMALL), "flip and crop have no effect"),
        (lambda: Digits(batch_size=2000).train_dataloader(), "1347 pictures .* lower batch_size to 1347"),
        (lambda: Digits(subset=2000).setup(), "subset=2000"),
        (lambda: Cifar10().setup(), "Cifar10 needs root"),
    ],
)
def test_bad_use(make, message):
    with pytest.raises((ValueError, DatasetError), match=message):
        make()


def test_nothing_is_fetched_unless_asked(tmp_path, monkeypatch):
    from torchvision.datasets import utils

    asked = []
    monkeypatch.setattr(utils, "download_url", lambda url, *_: asked.append(url))
    FashionMnist(root=tmp_path / "new").prepare_data()
    assert not asked
    assert not (tmp_path / "new").exists()
    FashionMnist(root=tmp_path / "new", download=True).prepare_data()
    assert [url.rpartition("/")[2] for url in asked] == [
        name for name, _ in torchvision.datasets.FashionMNIST.resources
    ]
    generated.write_fashion_mnist(tmp_path)
    asked.clear()
    FashionMnist(root=tmp_path, download=True).prepare_data()
    assert not asked


class Recorder(LightningModule):
    """Trains nothing to speak of, and notes the batches that it sees."""

    def __init__(self, asks_for_steps: bool) -> None:
        super().__init__()
        self.asks_for_steps = asks_for_steps
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, int, float, float]] = []
        self.validated: list[torch.dtype] = []

    def training_step(self, batch, batch_idx):
        images, targets = (part.double().flatten() for part in batch)
        place = torch.arange(len(targets), dtype=torch.float64)
        self.seen.append((self.current_epoch, batch_idx, float(images.std()), float((targets * place).sum())))
        return self.weight * images.mean().float()

    def validation_step(self, batch, batch_idx):
        self.validated.append(batch[1].dtype)

    def configure_optimizers(self):
        if self.asks_for_steps:
            assert self.trainer.estimated_stepping_batches
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder, resume=None, asks_for_steps=False, at_the_end=False, **options) -> Recorder:
    often = {"every_n_train_steps": None if at_the_end else 1, "save_on_train_epoch_end": at_the_end}
    model, every_step = Recorder(asks_for_steps), ModelCheckpoint(folder, filename="{step}", save_top_k=-1, **often)
    data = Digits(batch_size=64, subset=200, flip=True, crop=1, mixup=MixupOptions())
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = Trainer(max_epochs=3, callbacks=[every_step], num_sanity_val_steps=0, **quiet, **options)
    trainer.fit(model, data, ckpt_path=resume)
    return model


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"asks_for_steps": True},
        {"at_the_end": True, "limit_train_batches": 2},
        {"limit_train_batches": 2},
        {"val_check_interval": 2},
    ],
)
@pytest.mark.filterwarnings("error:You're resuming")
@pytest.mark.filterwarnings("ignore:The dirpath has changed", "ignore:Checkpoint directory", "ignore:.*LeafSpec")
def test_lightning_resumes_from_any_checkpoint_as_if_unbroken(tmp_path, options):
    unbroken = fit(tmp_path, **options)
    length = options.get("limit_train_batches", 3)
    assert [place[:2] for place in unbroken.seen] == [divmod(number, length) for number in range(3 * length)]
    assert set(unbroken.validated) == {torch.int64}
    steps = [step for step in range(1, 3 * length) if (tmp_path / f"step={step}.ckpt").exists()]
    assert len(steps) == (2 if "at_the_end" in options else 3 * length - 1)
    for step in steps:
        resumed = fit(tmp_path / "other", tmp_path / f"step={step}.ckpt", **options)
        assert resumed.seen == unbroken.seen[step:], step


def test_every_option_is_one_of_the_command_line_with_its_reason():
    parser = ArgumentParser()
    parser.add_subclass_arguments(ImageData, "data")
    arguments = ["--data=Cifar100", "--data.batch_size=64", "--data.download=true", "--data.mixup.cutmix=0.5"]
    arguments += ["--data.transform.auto_augment=original", "--data.root=/somewhere", "--data.subset=500"]
    made = parser.instantiate(parser.parse_args(arguments)).data
    assert isinstance(made, Cifar100)
    assert made.download
    assert (made.batch_size, made.subset, str(made.root)) == (64, 500, "/somewhere")
    assert made.mixup == MixupOptions(cutmix=0.5)
    assert made.transform == TransformOptions(auto_augment="original")


@pytest.mark.parametrize("kind", [Digits, FashionMnist, Cifar10, Cifar100, ImageNet])
def test_help_explains_every_option(kind):
    parser = ArgumentParser()
    parser.add_class_arguments(kind, "data")
    options = [action for action in parser._actions if action.dest.startswith("data.")]
    assert len(options) > 1
    assert not [action.dest for action in options if not action.help]
