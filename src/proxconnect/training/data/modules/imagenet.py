"""ImageNet, whose pictures are opened one by one."""

from typing import Any

from proxconnect.training.data.loaders import View
from proxconnect.training.data.modules.base import ImageData
from proxconnect.training.data.pictures import Pictures, Splits
from proxconnect.training.data.sources.imagenet import read_imagenet
from proxconnect.training.data.transforms import Augmented, Opened, TransformOptions

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's training pictures, in units of full brightness, as torchvision and timm have them."""


RESNETS = TransformOptions()


class ImageNet(ImageData[Pictures]):
    """ImageNet, or any pictures laid out like it: folders of classes, or parquet shards of Hugging Face.

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
        """As many as `root` has."""
        return self._splits.classes

    @property
    def image_size(self) -> int:
        """Height and width of what the network sees, in pixels."""
        return self.transform.image_size

    def read(self) -> Splits[Pictures]:
        """Both splits, from whichever layout `root` has."""
        return read_imagenet(self._root)

    def plain_view(self, pictures: Pictures) -> View:
        """The middle of each picture, resized."""
        return Opened(pictures, self.transform.for_evaluation(MEAN, DEVIATION))

    def training_view(self, pictures: Pictures) -> View:
        """Random crops, augmented."""
        return Augmented(pictures, self.transform.for_training(MEAN, DEVIATION), self.seed)
