"""Pictures that are opened one by one, cropped, recoloured and erased by timm."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from proxconnect._support import extras
from proxconnect.training.data.hashing import Purpose, seeds
from proxconnect.training.data.pictures import Pictures
from proxconnect.training.data.posterizing import let_posterize_to_black
from proxconnect.training.data.reseeding import generators_restored, reseed

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class TransformOptions:
    """What timm's `create_transform` does to pictures; the defaults are those of ResNets on ImageNet.

    Args:
        image_size: height and width of what the network sees, in pixels.
        scale: smallest and largest share of the picture's area that a random crop takes.
        ratio: narrowest and widest ratio of width to height of a random crop.
        flip: how probable mirroring left to right is.
        color_jitter: how far brightness, contrast and saturation move; without effect where auto_augment is given.
        auto_augment: a policy in timm's words, as rand-m9-mstd0.5-inc1 (RandAugment), augmix-m3 or original.
        interpolation: how pictures are resized; random is one of the two by chance, for training only.
        erasing: how probable erasing a random rectangle is.
        erasing_mode: what fills it: zeros, one random colour, or a random colour for each pixel.
        erasing_count: how many rectangles at most.
        crop_share: for evaluation the shorter side becomes image_size / crop_share, and the middle is taken.
        mean: what is subtracted from each channel, in units of full brightness; by default that of the data set.
        deviation: what each channel is divided by; by default that of the data set.
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

    def for_training(self, mean: tuple[float, ...], deviation: tuple[float, ...]) -> "Transform":
        """From a picture of PIL to float32 (C, H, W), at random; `mean` and `deviation` are the data set's.

        ValueError where timm does not understand `auto_augment`.
        """
        try:
            transform = self._made(
                mean,
                deviation,
                is_training=True,
                scale=self.scale,
                ratio=self.ratio,
                hflip=self.flip,
                color_jitter=self.color_jitter or None,
                auto_augment=self.auto_augment,
                interpolation=self.interpolation,
                re_prob=self.erasing,
                re_mode=self.erasing_mode,
                re_count=self.erasing_count,
            )
        except (AssertionError, KeyError, ValueError, IndexError) as error:
            raise ValueError(
                f"timm does not understand auto_augment={self.auto_augment!r} ({error or 'no reason given'}): "
                "examples are rand-m9-mstd0.5-inc1, augmix-m3, original"
            ) from error
        let_posterize_to_black(transform)
        return transform

    def for_evaluation(self, mean: tuple[float, ...], deviation: tuple[float, ...]) -> "Transform":
        """From a picture of PIL to the middle of it, float32 (C, H, W); `mean` and `deviation` are the data set's."""
        interpolation = "bilinear" if self.interpolation == "random" else self.interpolation
        return self._made(mean, deviation, interpolation=interpolation, crop_pct=self.crop_share)

    def _made(self, mean: tuple[float, ...], deviation: tuple[float, ...], **options: Any) -> "Transform":
        timm_data = extras.require("timm.data", "train")
        transform: Transform = timm_data.create_transform(
            (len(mean), self.image_size, self.image_size),
            mean=mean if self.mean is None else self.mean,
            std=deviation if self.deviation is None else self.deviation,
            **options,
        )
        return transform


Transform = Callable[["Image.Image"], Tensor]


@dataclass(frozen=True, eq=False)
class Opened:
    """A view of `pictures`: each as `transform`, in which nothing is random, makes it."""

    pictures: Pictures
    transform: Transform

    def __call__(self, rows: Tensor, epoch: int) -> Tensor:
        """The pictures `rows` as float32, in every epoch the same."""
        return torch.stack([self.transform(self.pictures.open(row)) for row in rows.tolist()])


@dataclass(frozen=True, eq=False)
class Augmented:
    """A view of `pictures`: each as `transform` makes it at random, a pure function of (seed, epoch, picture)."""

    pictures: Pictures
    transform: Transform
    seed: int

    def __call__(self, rows: Tensor, epoch: int) -> Tensor:
        """The pictures `rows` as float32, as they are seen in this epoch. Global generators are as they were after."""
        chances = seeds(Purpose.TRANSFORM, self.seed, epoch, rows)
        with generators_restored():
            return torch.stack([self._seen(*pair) for pair in zip(rows.tolist(), chances.tolist(), strict=True)])

    def _seen(self, row: int, chance: int) -> Tensor:
        reseed(chance)
        return self.transform(self.pictures.open(row))
