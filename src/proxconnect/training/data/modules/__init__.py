"""Lightning data modules: each data set with its options, in streams that resume bit-exactly."""

from proxconnect.training.data.augmentation import MixupOptions
from proxconnect.training.data.modules.base import ImageData
from proxconnect.training.data.modules.cifar import Cifar10, Cifar100
from proxconnect.training.data.modules.imagenet import ImageNet
from proxconnect.training.data.modules.small import Digits, FashionMnist, SmallImages
from proxconnect.training.data.transforms import TransformOptions

__all__ = [
    "Cifar10",
    "Cifar100",
    "Digits",
    "FashionMnist",
    "ImageData",
    "ImageNet",
    "MixupOptions",
    "SmallImages",
    "TransformOptions",
]
