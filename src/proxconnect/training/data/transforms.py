"""Pictures that are opened one by one, then cropped, recoloured and erased by timm."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from proxconnect._support import extras
from proxconnect.training.data.hashing import Purpose, seeded, seeds
from proxconnect.training.data.pictures import Pictures

Transform = Callable[[Image.Image], Tensor]
"""From a picture of PIL to float32 (C, H, W)."""


@dataclass(frozen=True)
class TransformOptions:
    """Options of timm's `create_transform`; the defaults are those of ResNets on ImageNet.

    Args:
        image_size: height and width of the network's input, in pixels.
        scale: smallest and largest share of the picture's area that a random crop takes.
        ratio: narrowest and widest ratio of width to height of a random crop.
        flip: probability of mirroring left to right.
        color_jitter: range of brightness, contrast and saturation; without effect if auto_augment is given.
        auto_augment: a policy in timm's words, as rand-m9-mstd0.5-inc1 (RandAugment), augmix-m3 or original.
        interpolation: for resizing; random is one of the other two by chance, in training only.
        erasing: probability of erasing a random rectangle.
        erasing_mode: zeros, one random colour, or a random colour for each pixel.
        erasing_count: the most rectangles.
        crop_share: for evaluation the shorter side becomes image_size / crop_share, and the middle is taken.
        mean: subtracted from each channel, in units of full brightness; by default that of the data set.
        deviation: divides each channel; by default that of the data set.
    """

    image_size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    color_jitter: float = 0.0
    auto_augment: str | None = None
    interpolation: Literal["bilinear", "bicubic", "random"] = "bilinear"
    erasing: float = 0.0
    erasing_mode: Literal["const", "rand", "pixel"] = "pixel"
    erasing_count: int = 1
    crop_share: float = 0.875
    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.image_size < 1 or not 0 < self.crop_share <= 1:
            raise ValueError(
                f"image_size={self.image_size} must be at least 1, and crop_share={self.crop_share} in (0, 1]"
            )
        if (self.mean is None) != (self.deviation is None):
            raise ValueError("give both mean and deviation or neither, which are then those of the data set")

    def for_training(self, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Transform:
        """Return the random transform for a data set of that mean and deviation; ValueError for a wrong policy."""
        try:
            transform: Transform = self._made(
                mean, deviation, is_training=True, scale=self.scale, ratio=self.ratio, hflip=self.flip,
                color_jitter=self.color_jitter or None, auto_augment=self.auto_augment,
                interpolation=self.interpolation, re_prob=self.erasing, re_mode=self.erasing_mode,
                re_count=self.erasing_count,
            )  # fmt: skip
        except (AssertionError, KeyError, ValueError, IndexError) as error:
            raise ValueError(
                f"timm does not understand auto_augment={self.auto_augment!r} ({error or 'no reason given'}): "
                "examples are rand-m9-mstd0.5-inc1, augmix-m3, original"
            ) from error
        return transform

    def for_evaluation(self, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Transform:
        """Return the transform that resizes a picture and takes its middle."""
        interpolation = "bilinear" if self.interpolation == "random" else self.interpolation
        transform: Transform = self._made(mean, deviation, interpolation=interpolation, crop_pct=self.crop_share)
        return transform

    def _made(self, mean: tuple[float, ...], deviation: tuple[float, ...], **options: Any) -> Any:
        transform: Any = extras.require("timm.data", "train").create_transform(
            (len(mean), self.image_size, self.image_size), mean=self.mean or mean, std=self.deviation or deviation,
            **options,
        )  # fmt: skip
        # Let Posterize keep no bit, as RandAugment asks at magnitude 10: Pillow 13 refuses that.
        theirs = extras.require("timm.data.auto_augment", "train").posterize
        for step in transform.transforms:
            for operation in chain(getattr(step, "ops", ()), *getattr(step, "policy", ())):
                if operation.aug_fn is theirs:
                    operation.aug_fn = posterized
        return transform


def opened(pictures: Pictures, transform: Transform, rows: Tensor, epoch: int) -> Tensor:
    """Return the pictures `rows` as float32, by a `transform` in which nothing is random."""
    return torch.stack([transform(pictures.open(row)) for row in rows.tolist()])


def augmented(pictures: Pictures, transform: Transform, seed: int, rows: Tensor, epoch: int) -> Tensor:
    """Return the pictures `rows` as float32, by a random `transform` of which (seed, epoch, picture) decides."""
    seen = []
    for row, chance in zip(rows.tolist(), seeds(Purpose.TRANSFORM, seed, epoch, rows).tolist(), strict=True):
        with seeded(chance):
            seen.append(transform(pictures.open(row)))
    return torch.stack(seen)


def posterized(image: Image.Image, bits: int, **options: Any) -> Image.Image:
    """Keep the highest `bits` of each channel; 0 bits give a black picture."""
    if bits < 1:
        return Image.new(image.mode, image.size)
    picture: Image.Image = extras.require("timm.data.auto_augment", "train").posterize(image, bits, **options)
    return picture
