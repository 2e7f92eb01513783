"""Lightning data modules: each data set with its options, in streams that resume bit-exactly."""

from proxconnect.training.data.modules.base import Digits, FashionMnist, ImageData, SmallImages
from proxconnect.training.data.modules.cifar import Cifar10, Cifar100
from proxconnect.training.data.modules.imagenet import ImageNet
from proxconnect.training.data.modules.own import PictureFolder, TorchDatasets
from proxconnect.training.data.transforms import MixupOptions, TransformOptions

__all__ = [
    "Cifar10",
    "Cifar100",
    "Digits",
    "FashionMnist",
    "ImageData",
    "ImageNet",
    "MixupOptions",
    "PictureFolder",
    "SmallImages",
    "TorchDatasets",
    "TransformOptions",
]
