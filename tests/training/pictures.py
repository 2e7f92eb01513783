"""A data module of generated pictures, 8 x 8, that tell their class; a run on it takes a second."""

import torch

from proxconnect.training.data.modules import SmallImages
from proxconnect.training.data.pictures import Splits, TensorPictures


class GeneratedPictures(SmallImages):
    """Bright columns on noise, another pair of them for each of four classes: 96 to train on, 48 to test on."""

    name, classes, in_channels, published_size = "generated", 4, 1, 8

    def read(self):
        return Splits(pictures(96, seed=1), pictures(48, seed=2), self.classes)


def pictures(count, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (count,), generator=generator)
    images = torch.randint(0, 160, (count, 1, 8, 8), generator=generator)
    images += 40 * (torch.arange(8) // 2 == labels[:, None])[:, None, None]
    return TensorPictures(images.to(torch.uint8), labels)
