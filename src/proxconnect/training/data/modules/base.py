"""The common part of all data modules of pictures, and the modules of small pictures in memory."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, distributed

from proxconnect._support.paths import folder_name
from proxconnect.training.data import transforms
from proxconnect.training.data.dataset import FASHION_MNIST_ROOT, read_digits, read_fashion_mnist
from proxconnect.training.data.loaders import Batch, Batches, InTurn, Shuffled, TrainLoader, View, select
from proxconnect.training.data.pictures import DatasetError, Pictures, Splits, TensorPictures, downloading

P = TypeVar("P", bound=Pictures)


class ImageData(LightningDataModule, ABC, Generic[P]):
    """The base class of Lightning data modules of labelled pictures, to train, validate and test on.

    Batches are images, float32 (N, C, H, W), standardised, and labels, int64 (N,). With the same options, a batch to
    train on, augmented or not, depends on its epoch and number alone. Under DDP each rank has its part of it. The
    position is in the state dict, so that a checkpoint of Lightning resumes within an epoch; `start_at` sets it by
    hand. Files are read at first use.

    Args:
        root: the folder that holds the data set.
        batch_size: pictures in a batch to train on, on each process; the rest of an epoch is dropped.
        eval_batch_size: the most pictures in a batch to validate or test on, on each process.
        workers: processes that make batches, on each process; 0, none, is best for pictures in memory.
        validation: the number of training pictures to hold out, by class, and to validate on; 0: use the validation set
            of the data, or else the test set.
        split_seed: decides which pictures are held out and which are the subset.
        subset: the number of other training pictures to use, by class; a larger subset holds each smaller one.
        seed: decides the order of each epoch and the augmentation of each picture.
        mixup: Mixup and CutMix of batches to train on, whose labels then are float32 (N, classes).
    """

    name: str
    default_root: Path | None = None
    in_channels: int
    """The number of colour channels of a picture."""

    def __init__(
        self, root: Path | None = None, batch_size: int = 128, eval_batch_size: int = 500, workers: int = 0,
        validation: int = 0, split_seed: int = 0, subset: int | None = None, seed: int = 0,
        mixup: transforms.MixupOptions | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if batch_size < 1 or eval_batch_size < 1 or workers < 0:
            raise ValueError(
                f"batch_size={batch_size} and eval_batch_size={eval_batch_size} must be at least 1, "
                f"and workers={workers} at least 0"
            )
        if mixup is not None and batch_size % 2:
            raise ValueError(f"batch_size={batch_size} must be even with mixup, which mixes pictures in pairs")
        self.root, self.batch_size, self.eval_batch_size, self.workers = root, batch_size, eval_batch_size, workers
        self.validation, self.split_seed, self.subset, self.seed = validation, split_seed, subset, seed
        self.mixup = mixup
        self._loader: TrainLoader | None = None
        self._start: tuple[int, int] | None = None

    @property
    @abstractmethod
    def classes(self) -> int:
        """The number of classes."""

    @property
    @abstractmethod
    def image_size(self) -> int:
        """Height and width of the network's input, in pixels."""

    @abstractmethod
    def read(self) -> Splits[P]:
        """Read the files, and return the published training and test set; DatasetError if files are absent or wrong."""

    @abstractmethod
    def plain_view(self, pictures: P) -> View:
        """Return a function from indices, int64 (N,), and epoch to images, float32 (N, C, H, W), standardised."""

    @abstractmethod
    def training_view(self, pictures: P) -> View:
        """Return a function like that of `plain_view`, with images augmented by `seed`, epoch and index alone."""

    def setup(self, stage: str | None = None) -> None:
        """Read the files and choose the pictures to train on, so that errors come early; `stage` has no effect."""
        _ = self._selection

    def start_at(self, epoch: int, batch: int) -> None:
        """Let training begin with batch number `batch` of epoch `epoch`, both from 0, as after an interruption."""
        self._start = (epoch, batch)
        if self._loader is not None:
            self._loader.start_at(epoch, batch)

    def teardown(self, stage: str | None = None) -> None:
        """Forget the position of training, so that another run does not start there; `stage` has no effect."""
        self._loader = self._start = None

    def train_dataloader(self) -> TrainLoader:
        """Return a loader of training batches; it begins where `start_at` said, or else with the trainer's epoch.

        A position of `start_at` serves one call. Without a trainer the loader begins with epoch 0.
        """
        pictures = self._splits.train
        batches = Batches(self.training_view(pictures), pictures.labels, self._order(*_place()), self.workers)
        self._loader = TrainLoader(
            batches, lambda: math.inf if self.trainer is None else self.trainer.num_training_batches
        )
        epochs_done = 0 if self.trainer is None else self.trainer.current_epoch
        self._loader.start_at(*(self._start or (epochs_done, 0)))
        self._start = None
        return self._loader

    def val_dataloader(self) -> Batches:
        """Return batches of the pictures that `validation` says, not augmented."""
        if self.validation:
            return self._eval_loader(self._splits.train, self._selection[1])
        return self._eval_loader(self._splits.validation or self._splits.test)

    def test_dataloader(self) -> Batches:
        """Return batches of the test set, each picture once, not augmented."""
        return self._eval_loader(self._splits.test)

    def calibration_batches(self, count: int) -> Iterator[Batch]:
        """Yield up to `count` training batches of epoch 0, augmented as in training, and the same on every process.

        Batch norm is re-estimated on them, because its statistics belong to the pictures that the weights were trained
        on: the borders that a random crop fills, for example, are part of them.
        """
        pictures = self._splits.train
        order = self._order(rank=0, world=1)
        return islice(Batches(self.training_view(pictures), pictures.labels, order, self.workers), count)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Return `batch`, images and labels; if it is to train on and `mixup` is set, pass it through `mixed`."""
        trains = self.trainer is not None and self.trainer.training
        if self.mixup is None or not trains or self._loader is None:
            return batch
        (images, labels), (epoch, number) = batch, self._loader.latest
        return transforms.mixed(images, labels, self.mixup, self.classes, seed=self.seed, epoch=epoch, batch=number)

    def state_dict(self) -> dict[str, Any]:
        """Return the position of training as "epoch" and "batch", the next one to train on; empty without a loader."""
        # Lightning saves it too, but restores no loader that was made early, for trainer.estimated_stepping_batches.
        return {} if self._loader is None else self._loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let training begin at the position that `state_dict` holds; an empty one changes nothing."""
        if state_dict:
            self.start_at(state_dict["epoch"], state_dict["batch"])

    @property
    def _root(self) -> Path:
        root = self.default_root if self.root is None else self.root
        if root is None:
            raise DatasetError(f"{type(self).__name__} needs root, the folder that holds {self.name} (--data.root)")
        return folder_name(root, "root").expanduser()

    @cached_property
    def _splits(self) -> Splits[P]:
        return self.read()

    @cached_property
    def _selection(self) -> tuple[Tensor, Tensor]:
        """The numbers of the training pictures that are trained on, and held out."""
        return select(self._splits.train.labels, self.validation, self.subset, self.split_seed)

    def _order(self, rank: int, world: int) -> Shuffled:
        return Shuffled(self._selection[0], self.batch_size, self.seed, rank, world, self._splits.train.blocks)

    def _eval_loader(self, pictures: P, rows: Tensor | None = None) -> Batches:
        rows = torch.arange(len(pictures.labels)) if rows is None else rows
        order = InTurn(rows, self.eval_batch_size, *_place())
        return Batches(self.plain_view(pictures), pictures.labels, order, self.workers)


def _place() -> tuple[int, int]:
    """Return the rank of this process and the number of processes."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


class SmallImages(ImageData[TensorPictures]):
    """The base class of data modules of small pictures, kept in memory.

    They are standardised by the mean and deviation of each channel over the whole published training set, unless
    `transform` has others. Without `transform` they are augmented a batch at a time.

    Args:
        flip: mirror pictures left to right with probability 0.5.
        crop: the most pixels to shift pictures by, over a black border.
        transform: let timm transform each picture instead of flip and crop; far slower.
        kwargs: as of ImageData.
    """

    published_size: int

    def __init__(
        self, flip: bool = False, crop: int = 0, transform: transforms.TransformOptions | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if crop < 0:
            raise ValueError(f"crop={crop} must be at least 0 pixels")
        if transform is not None and (flip or crop):
            raise ValueError("flip and crop have no effect with transform, which has a flip and crops of its own")
        self.flip, self.crop, self.transform = flip, crop, transform

    @property
    def image_size(self) -> int:
        """Height and width of the network's input, in pixels."""
        return self.published_size if self.transform is None else self.transform.image_size

    def plain_view(self, pictures: TensorPictures) -> View:
        """Return a function as `ImageData` says; a `transform` resizes each image and keeps only its middle."""
        if self.transform is None:
            return partial(transforms.plain, pictures.images, self._standardisation)
        transform = self.transform.for_evaluation(*self._standardisation.of_full_brightness)
        return partial(transforms.opened, pictures, transform)

    def training_view(self, pictures: TensorPictures) -> View:
        """Return a function as `ImageData` says; it augments images by `flip` and `crop`, or by `transform`."""
        if self.transform is not None:
            transform = self.transform.for_training(*self._standardisation.of_full_brightness)
            return partial(transforms.augmented, pictures, transform, self.seed)
        if not self.flip and not self.crop:
            return self.plain_view(pictures)
        return partial(
            transforms.flipped_and_cropped, pictures.images, self._standardisation, self.flip, self.crop, self.seed
        )

    @cached_property
    def _standardisation(self) -> transforms.Standardisation:
        return transforms.Standardisation.of(self._splits.train.images)


class Digits(SmallImages):
    """Data module of scikit-learn's digits: 1347 training and 450 test images, 1 × 8 × 8; `root` is not needed."""

    name, classes, in_channels, published_size = "digits", 10, 1, 8

    def read(self) -> Splits[TensorPictures]:
        """Return the 1347 images to train on and the 450 to test on; MissingExtraError without scikit-learn."""
        return read_digits()


class Downloadable(SmallImages):
    """The base class of data modules of small pictures whose files torchvision can fetch.

    Args:
        download: fetch the files into root if they are not there.
        kwargs: as of SmallImages.
    """

    def __init__(self, download: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.download = download

    def prepare_data(self) -> None:
        """Fetch absent files into root if `download` is True; Lightning calls it on one process of each machine."""
        if self.download:
            self._root.mkdir(parents=True, exist_ok=True)
            self.fetch(self._root)

    @abstractmethod
    def fetch(self, root: Path) -> None:
        """Fetch the files that `root` lacks, by torchvision's addresses and checksums; DatasetError if that fails."""


class FashionMnist(Downloadable):
    """Data module of Fashion-MNIST: 60000 training and 10000 test images of clothing, 1 × 28 × 28, of 10 classes.

    By default its root is that of the Debian package dataset-fashion-mnist.
    """

    name, classes, in_channels, published_size = "fashion-mnist", 10, 1, 28
    default_root = FASHION_MNIST_ROOT

    def read(self) -> Splits[TensorPictures]:
        """Return the training and test set from four IDX files in root; DatasetError if one is absent or wrong."""
        return read_fashion_mnist(self._root)

    def fetch(self, root: Path) -> None:
        """Fetch the IDX files that `root` lacks; DatasetError if that fails."""
        from torchvision.datasets import FashionMNIST, utils

        with downloading("Fashion-MNIST", root):
            for name, md5 in FashionMNIST.resources:
                if not (root / name).is_file() and not (root / name).with_suffix("").is_file():
                    utils.download_url(f"{FashionMNIST.mirrors[0]}{name}", root, name, md5)
