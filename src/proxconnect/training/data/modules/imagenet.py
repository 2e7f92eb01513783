"""ImageNet, with pictures that are opened one by one."""

from functools import partial
from typing import Any

from proxconnect.training.data.loaders import View
from proxconnect.training.data.modules.base import ImageData
from proxconnect.training.data.pictures import Pictures, Splits
from proxconnect.training.data.sources.imagenet import read_imagenet
from proxconnect.training.data.transforms import TransformOptions, augmented, opened

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's training pictures, in units of full brightness, as in torchvision and timm."""

RESNETS = TransformOptions()


class ImageNet(ImageData[Pictures]):
    """ImageNet, or pictures in the same layout: folders of classes, or parquet shards of Hugging Face.

    Its validation pictures are the test set.

    Args:
        transform: how pictures are cropped and augmented.
        kwargs: as of ImageData.
    """

    name, in_channels = "imagenet", 3

    def __init__(self, transform: TransformOptions = RESNETS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.transform = transform

    @property
    def classes(self) -> int:
        """The number of classes in `root`."""
        return self._splits.classes

    @property
    def image_size(self) -> int:
        """Height and width of the network's input, in pixels."""
        return self.transform.image_size

    def read(self) -> Splits[Pictures]:
        """Read both splits, in the layout of `root`."""
        return read_imagenet(self._root)

    def plain_view(self, pictures: Pictures) -> View:
        """Resize each picture and take its middle."""
        return partial(opened, pictures, self.transform.for_evaluation(MEAN, DEVIATION))

    def training_view(self, pictures: Pictures) -> View:
        """Crop and augment at random."""
        return partial(augmented, pictures, self.transform.for_training(MEAN, DEVIATION), self.seed)
