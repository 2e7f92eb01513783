"""Data sets of small pictures in memory."""

from abc import abstractmethod
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from proxconnect.training.data.augmentation import Standardisation, flipped_and_cropped, plain
from proxconnect.training.data.dataset import read_digits
from proxconnect.training.data.errors import downloading
from proxconnect.training.data.idx import FASHION_MNIST_ROOT, read_fashion_mnist
from proxconnect.training.data.loaders import View
from proxconnect.training.data.modules.base import ImageData
from proxconnect.training.data.pictures import Splits, TensorPictures
from proxconnect.training.data.transforms import TransformOptions, augmented, opened


class SmallImages(ImageData[TensorPictures]):
    """Pictures in memory, fetched, flipped and cropped a batch at a time.

    They have zero mean and unit variance in each channel over the whole published training set.

    Args:
        flip: mirror half of the pictures left to right.
        crop: the most pixels to shift pictures by, over a black border.
        transform: let timm transform each picture instead of the two; far slower.
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
        """Height and width of the network's input, in pixels."""
        return self.published_size if self.transform is None else self.transform.image_size

    def plain_view(self, pictures: TensorPictures) -> View:
        """Standardise, and resize with `transform`."""
        if self.transform is None:
            return partial(plain, pictures.images, self._standardisation)
        return partial(opened, pictures, self.transform.for_evaluation(*self._standardisation.of_full_brightness))

    def training_view(self, pictures: TensorPictures) -> View:
        """Flip and crop, or use `transform`."""
        if self.transform is not None:
            transform = self.transform.for_training(*self._standardisation.of_full_brightness)
            return partial(augmented, pictures, transform, self.seed)
        if not self.flip and not self.crop:
            return self.plain_view(pictures)
        return partial(flipped_and_cropped, pictures.images, self._standardisation, self.flip, self.crop, self.seed)

    @cached_property
    def _standardisation(self) -> Standardisation:
        return Standardisation.of(self._splits.train.images)


class Digits(SmallImages):
    """1797 handwritten digits, 8 x 8, of scikit-learn: 1347 to train on, 450 to test on; `root` is not needed."""

    name, classes, in_channels, published_size = "digits", 10, 1, 8

    def read(self) -> Splits[TensorPictures]:
        """Return both splits."""
        return read_digits()


class Downloadable(SmallImages):
    """Files that torchvision can fetch.

    Args:
        download: fetch the files into root if they are not there.
        kwargs: as of SmallImages.
    """

    def __init__(self, download: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.download = download

    def prepare_data(self) -> None:
        """Fetch absent files if asked to, on one process of each machine."""
        if self.download:
            self._root.mkdir(parents=True, exist_ok=True)
            self.fetch(self._root)

    @abstractmethod
    def fetch(self, root: Path) -> None:
        """Fetch what `root` lacks, by the addresses and checksums of torchvision."""


class FashionMnist(Downloadable):
    """Fashion-MNIST: 60000 articles of clothing, 28 x 28, to train on, 10000 to test on.

    By default its root is that of the Debian package dataset-fashion-mnist.
    """

    name, classes, in_channels, published_size = "fashion-mnist", 10, 1, 28
    default_root = FASHION_MNIST_ROOT

    def read(self) -> Splits[TensorPictures]:
        """Read both splits from the four IDX files."""
        return read_fashion_mnist(self._root)

    def fetch(self, root: Path) -> None:
        """Fetch the absent files."""
        from torchvision.datasets import FashionMNIST
        from torchvision.datasets.utils import download_url

        with downloading("Fashion-MNIST", root):
            for name, md5 in FashionMNIST.resources:
                if not (root / name).is_file() and not (root / name).with_suffix("").is_file():
                    download_url(f"{FashionMNIST.mirrors[0]}{name}", root, name, md5)
