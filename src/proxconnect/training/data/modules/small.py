"""Data sets of small pictures, which are in memory."""

from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any

from proxconnect.training.data.augmentation import FlippedAndCropped, Plain
from proxconnect.training.data.loaders import View
from proxconnect.training.data.modules.base import ImageData
from proxconnect.training.data.pictures import Splits, TensorPictures
from proxconnect.training.data.sources.cifar import download_cifar10, download_cifar100, read_cifar10, read_cifar100
from proxconnect.training.data.sources.digits import read_digits
from proxconnect.training.data.sources.fashion_mnist import (
    FASHION_MNIST_ROOT,
    download_fashion_mnist,
    read_fashion_mnist,
)
from proxconnect.training.data.standardisation import Standardisation
from proxconnect.training.data.transforms import Augmented, Opened, TransformOptions


class SmallImages(ImageData[TensorPictures]):
    """Pictures in memory, of which a batch is fetched, flipped and cropped at once.

    They have zero mean and unit variance in each channel over the whole training set as it is published.

    Args:
        flip: mirror half of the pictures left to right.
        crop: shift pictures by up to so many pixels; what comes in is black.
        transform: what timm does to each picture by itself, in place of the two; far slower.
        kwargs: as of ImageData.
    """

    published_size: int

    def __init__(
        self, flip: bool = False, crop: int = 0, transform: TransformOptions | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if crop < 0:
            raise ValueError(f"crop={crop} must be at least 0 pixels")
        if transform is not None and (flip or crop):
            raise ValueError("flip and crop have no effect with transform, which has a flip and crops of its own")
        self.flip, self.crop, self.transform = flip, crop, transform

    @property
    def image_size(self) -> int:
        """Height and width of what the network sees, in pixels."""
        return self.published_size if self.transform is None else self.transform.image_size

    def plain_view(self, pictures: TensorPictures) -> View:
        """Standardised; with `transform`, also resized."""
        if self.transform is None:
            return Plain(pictures.images, self._standardisation)
        return Opened(pictures, self.transform.for_evaluation(*self._standardisation.of_full_brightness))

    def training_view(self, pictures: TensorPictures) -> View:
        """Flipped and cropped as asked."""
        if self.transform is not None:
            transform = self.transform.for_training(*self._standardisation.of_full_brightness)
            return Augmented(pictures, transform, self.seed)
        if not self.flip and not self.crop:
            return self.plain_view(pictures)
        return FlippedAndCropped(pictures.images, self._standardisation, self.flip, self.crop, self.seed)

    @cached_property
    def _standardisation(self) -> Standardisation:
        return Standardisation.of(self._splits.train.images)


class Digits(SmallImages):
    """1797 handwritten digits, 8 x 8, of scikit-learn: 1347 to train on, 450 to test on; `root` is not needed."""

    name, classes, in_channels, published_size = "digits", 10, 1, 8

    def read(self) -> Splits[TensorPictures]:
        """Both splits."""
        return read_digits()


class _Downloadable(SmallImages):
    """Files that torchvision knows where to get.

    Args:
        download: fetch the files into root if they are not there.
        kwargs: as of SmallImages.
    """

    def __init__(self, download: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.download = download

    def prepare_data(self) -> None:
        """Fetch the files, if asked to and they are not there; on one process of each machine."""
        if self.download:
            self._root.mkdir(parents=True, exist_ok=True)
            self.fetch(self._root)

    @abstractmethod
    def fetch(self, root: Path) -> None:
        """Fetch what is missing."""


class FashionMnist(_Downloadable):
    """Fashion-MNIST: 60000 articles of clothing, 28 x 28, to train on, 10000 to test on.

    Its root, if none is given, is where the Debian package dataset-fashion-mnist puts the files.
    """

    name, classes, in_channels, published_size = "fashion-mnist", 10, 1, 28
    default_root = FASHION_MNIST_ROOT

    def read(self) -> Splits[TensorPictures]:
        """Both splits, from the four IDX files."""
        return read_fashion_mnist(self._root)

    def fetch(self, root: Path) -> None:
        """Fetch what is missing."""
        download_fashion_mnist(root)


class Cifar10(_Downloadable):
    """CIFAR-10: 50000 colour pictures, 32 x 32, of 10 classes to train on, 10000 to test on."""

    name, classes, in_channels, published_size = "cifar-10", 10, 3, 32

    def read(self) -> Splits[TensorPictures]:
        """Both splits, from the batch files."""
        return read_cifar10(self._root)

    def fetch(self, root: Path) -> None:
        """Fetch the archive and unpack it."""
        download_cifar10(root)


class Cifar100(_Downloadable):
    """CIFAR-100: 50000 colour pictures, 32 x 32, of 100 classes to train on, 10000 to test on."""

    name, classes, in_channels, published_size = "cifar-100", 100, 3, 32

    def read(self) -> Splits[TensorPictures]:
        """Both splits, from the batch files."""
        return read_cifar100(self._root)

    def fetch(self, root: Path) -> None:
        """Fetch the archive and unpack it."""
        download_cifar100(root)
