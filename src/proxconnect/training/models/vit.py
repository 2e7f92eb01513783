"""A small vision transformer for small images."""

from typing import Any

from torch import nn

from proxconnect._support import extras


def small_vit(
    image_size: int = 28, in_channels: int = 1, classes: int = 10, *, patch: int | None = None, dim: int = 64,
    depth: int = 4, heads: int = 4, **options: Any,
) -> nn.Module:  # fmt: skip
    """Build timm's `VisionTransformer` (Dosovitskiy 2021, arXiv 2010.11929) of few small blocks, with its `options`."""
    patch = usual_patch(image_size) if patch is None else patch
    if image_size % patch:
        raise ValueError(f"patches of {patch} do not fill images of {image_size}: pass a patch that divides it")
    if dim % heads:
        raise ValueError(f"{heads} heads do not share out tokens of {dim}: pass a dim that is a multiple of heads")
    timm = extras.require("timm.models.vision_transformer", "train")
    model: nn.Module = timm.VisionTransformer(
        img_size=image_size, patch_size=patch, in_chans=in_channels, num_classes=classes, embed_dim=dim, depth=depth,
        num_heads=heads, **options,
    )  # fmt: skip
    return model


def usual_patch(image_size: int) -> int:
    """Return the largest patch up to 7 of which four or more fill a row; ValueError for images smaller than 4."""
    if image_size < 4:
        raise ValueError(f"an image of {image_size} is too small for four patches in a row")
    return max(size for size in range(1, min(7, image_size // 4) + 1) if image_size % size == 0)
