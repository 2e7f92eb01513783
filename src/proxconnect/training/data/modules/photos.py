"""The common part of data modules of photographs: pictures of any size, opened one by one and transformed by timm."""

from functools import partial
from typing import Any

from proxconnect.training.data.loaders import View
from proxconnect.training.data.modules.base import ImageData
from proxconnect.training.data.pictures import Pictures
from proxconnect.training.data.transforms import TransformOptions, augmented, opened

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, in units of full brightness


class Photos(ImageData[Pictures]):
    """The base class of data modules of photographs, which need timm.

    They are standardised by mean and deviation of ImageNet, unless `transform` has others.

    Args:
        transform: how pictures are cropped and augmented.
        kwargs: as of ImageData.
    """

    in_channels = 3

    def __init__(self, transform: TransformOptions = TransformOptions(), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.transform = transform

    @property
    def classes(self) -> int:
        """The number of classes of the data, which is read first if need be."""
        return self._splits.classes

    @property
    def image_size(self) -> int:
        """Height and width of the network's input, in pixels."""
        return self.transform.image_size

    def plain_view(self, pictures: Pictures) -> View:
        """Return the function from indices and epoch to images: resized, cropped to their middle, standardised."""
        return partial(opened, pictures, self.transform.for_evaluation(MEAN, DEVIATION))

    def training_view(self, pictures: Pictures) -> View:
        """Return the function from indices and epoch to images: cropped and augmented at random, standardised."""
        return partial(augmented, pictures, self.transform.for_training(MEAN, DEVIATION), self.seed)
