"""Views of pictures: those in memory a whole batch at a time, others one by one by timm; and mixed batches."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, Literal, cast

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from proxconnect._support import extras
from proxconnect.training.data.hashing import Purpose, seeded, seeds, uniform
from proxconnect.training.data.pictures import Pictures


@dataclass(frozen=True)
class Standardisation:
    """The mean and standard deviation of each channel, for pixels from 0 to 255; call it to standardise images."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def of(cls, images: Tensor) -> "Standardisation":
        """Return the one that gives uint8 `images` (N, C, H, W) mean 0 and variance 1 in each channel.

        A constant channel gets variance 0.
        """
        values = torch.arange(256, dtype=torch.float64)
        means, deviations = [], []
        for channel in images.unbind(1):
            counts = torch.bincount(channel.flatten(), minlength=256).double()
            mean = (counts @ values) / counts.sum()
            means.append(mean.item())
            deviations.append(((counts @ (values - mean).square()) / (counts.sum() - 1)).sqrt().item())
        return cls(tuple(means), tuple(deviation or 1.0 for deviation in deviations))

    @property
    def of_full_brightness(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The means and the standard deviations of the channels for pixels from 0 to 1, as timm takes them."""
        return tuple(mean / 255 for mean in self.mean), tuple(deviation / 255 for deviation in self.deviation)

    def __call__(self, images: Tensor) -> Tensor:
        """Return (image - mean) / deviation of uint8 `images` (N, C, H, W), as float32, rounded once from float64."""
        first = 256 * torch.arange(len(self.mean), dtype=torch.int32).reshape(-1, 1, 1)
        return self._table.index_select(0, (images.int() + first).flatten()).reshape(images.shape)

    @cached_property
    def _table(self) -> Tensor:
        """The results for the 256 values, channel after channel: a lookup is faster than float64."""
        mean, deviation = (torch.tensor(part, dtype=torch.float64).unsqueeze(1) for part in (self.mean, self.deviation))
        return ((torch.arange(256, dtype=torch.float64) - mean) / deviation).float().flatten()


def plain(images: Tensor, standardise: Standardisation, rows: Tensor, epoch: int) -> Tensor:
    """Return the pictures `rows` of `images`, uint8 (N, C, H, W), standardised to float32; ignore `epoch`."""
    return standardise(images.index_select(0, rows))


def flipped_and_cropped(
    images: Tensor, standardise: Standardisation, flip: bool, crop: int, seed: int, rows: Tensor, epoch: int
) -> Tensor:
    """Return the pictures `rows` of `images`, shifted and mirrored at random, and then standardised to float32.

    `images` are uint8 (N, C, H, W). Each picture is shifted by up to `crop` pixels in each direction, with zeros
    (black) at the border, and, if `flip`, mirrored left to right with probability 0.5. Seed, epoch and index of a
    picture alone decide. He 2015 (arXiv 1512.03385, section 4.2) has `flip` and `crop=4`.
    """
    chance = uniform(Purpose.FLIP_AND_CROP, seed, epoch, rows.unsqueeze(1), torch.arange(3)).unbind(1)
    mirrored = chance[0] < 0.5 if flip else torch.zeros(len(rows), dtype=torch.bool)
    down, right = ((draw * (2 * crop + 1)).long() for draw in chance[1:])
    return standardise(windows(images.index_select(0, rows), crop, down, right, mirrored))


def windows(images: Tensor, border: int, down: Tensor, right: Tensor, mirrored: Tensor) -> Tensor:
    """Pad `images` (N, C, H, W) with `border` zeros on each side, and cut a window of the former size from each.

    `down` and `right`, int64 (N,) from 0 to 2·border, are the first row and column of each window in the padded image.
    Windows with True in `mirrored`, bool (N,), are flipped left to right.
    """
    count, channels, height, width = images.shape
    bordered = functional.pad(images, (border, border, border, border))
    columns = torch.arange(width).expand(count, -1)
    columns = torch.where(mirrored.unsqueeze(1), columns.flip(1), columns) + right.unsqueeze(1)
    lines = torch.arange(height) + down.unsqueeze(1)
    places = lines.unsqueeze(2) * bordered.shape[3] + columns.unsqueeze(1)
    places = places.reshape(count, 1, -1).expand(-1, channels, -1)
    return bordered.flatten(2).gather(2, places).reshape(images.shape)


@dataclass(frozen=True)
class MixupOptions:
    """The options for Mixup and CutMix by timm; the defaults are those of DeiT (arXiv 2012.12877).

    Args:
        mixup: alpha of the beta distribution of Mixup's shares (arXiv 1710.09412); 0: no Mixup.
        cutmix: alpha of the beta distribution of CutMix's areas (arXiv 1905.04899); 0: no CutMix.
        prob: probability that a batch is mixed.
        switch_prob: probability of CutMix if both are on.
    """

    mixup: float = 0.8
    cutmix: float = 1.0
    prob: float = 1.0
    switch_prob: float = 0.5

    def __post_init__(self) -> None:
        if min(self.mixup, self.cutmix) < 0 or max(self.mixup, self.cutmix) == 0:
            raise ValueError(f"mixup={self.mixup} and cutmix={self.cutmix} must not be negative, nor both 0")
        if not (0 <= self.prob <= 1 and 0 <= self.switch_prob <= 1):
            raise ValueError(f"prob={self.prob} and switch_prob={self.switch_prob} must be in [0, 1]")


def mixed(
    images: Tensor, labels: Tensor, options: MixupOptions, classes: int, *, seed: int, epoch: int, batch: int
) -> tuple[Tensor, Tensor]:
    """Mix `images` (N, C, H, W), N even, in place with the same batch in reverse order, by timm's Mixup or CutMix.

    Return them and, for `labels`, int64 (N,), shares of classes, float32 (N, classes). The random choices, such as
    whether to mix, depend on the seed, the epoch and the number of the batch alone, and are the same on every rank.
    """
    mixup = extras.require("timm.data", "train").Mixup(
        options.mixup, options.cutmix, prob=options.prob, switch_prob=options.switch_prob, num_classes=classes,
        label_smoothing=0.0,  # the loss smooths
    )  # fmt: skip
    with seeded(int(seeds(Purpose.MIXING, seed, epoch, batch))):
        return cast(tuple[Tensor, Tensor], mixup(images, labels))


Transform = Callable[[Image.Image], Tensor]  # to float32 (C, H, W)


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
        """Return the random transform of a PIL image to a standardised tensor, float32 (C, H, W).

        `mean` and `deviation`, for pixels from 0 to 1, count if the options have none. ValueError if timm refuses the
        policy.
        """
        try:
            return self._made(
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

    def for_evaluation(self, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Transform:
        """Return the transform of a PIL image to its resized, standardised middle, float32; see `for_training`."""
        interpolation = "bilinear" if self.interpolation == "random" else self.interpolation
        return self._made(mean, deviation, interpolation=interpolation, crop_pct=self.crop_share)

    def _made(self, mean: tuple[float, ...], deviation: tuple[float, ...], **options: Any) -> Transform:
        transform = extras.require("timm.data", "train").create_transform(
            (len(mean), self.image_size, self.image_size), mean=self.mean or mean, std=self.deviation or deviation,
            **options,
        )  # fmt: skip
        # Let Posterize keep no bit, as RandAugment asks at magnitude 10: Pillow 13 refuses that.
        theirs = extras.require("timm.data.auto_augment", "train").posterize
        for step in transform.transforms:
            for operation in chain(getattr(step, "ops", ()), *getattr(step, "policy", ())):
                if operation.aug_fn is theirs:
                    operation.aug_fn = posterized
        return cast(Transform, transform)


def opened(pictures: Pictures, transform: Transform, rows: Tensor, epoch: int) -> Tensor:
    """Return the pictures with indices `rows`, float32 (N, C, H, W), by a deterministic `transform`; ignore `epoch`."""
    return torch.stack([transform(pictures.open(row)) for row in rows.tolist()])


def augmented(pictures: Pictures, transform: Transform, seed: int, rows: Tensor, epoch: int) -> Tensor:
    """Return the pictures with indices `rows`, float32 (N, C, H, W), by a random `transform`.

    Seed, epoch and index of a picture alone decide what the transform does to it.
    """
    seen = []
    for row, chance in zip(rows.tolist(), seeds(Purpose.TRANSFORM, seed, epoch, rows).tolist(), strict=True):
        with seeded(chance):
            seen.append(transform(pictures.open(row)))
    return torch.stack(seen)


def posterized(image: Image.Image, bits: int, **options: Any) -> Image.Image:
    """Return the image with the highest `bits` bits of each pixel value, by timm; with 0 bits a black one."""
    if bits < 1:
        return Image.new(image.mode, image.size)
    return cast(Image.Image, extras.require("timm.data.auto_augment", "train").posterize(image, bits, **options))
