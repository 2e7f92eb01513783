"""timm's policies, on a Pillow that refuses the strongest of what they ask for."""

from itertools import chain
from typing import TYPE_CHECKING, Any

from proxconnect._support import extras

if TYPE_CHECKING:
    from PIL import Image


def let_posterize_to_black(transform: Any) -> None:
    """Let the policies in `transform`, of timm's `create_transform`, keep no bit of a picture, which makes it black.

    RandAugment's Posterize does so at magnitude 10, which noise on 9 reaches, too. Up to Pillow 12 the picture became
    black; Pillow 13 raises ValueError, in the middle of an epoch.
    """
    theirs = extras.require("timm.data.auto_augment", "train").posterize
    for step in transform.transforms:
        for operation in chain(getattr(step, "ops", ()), *getattr(step, "policy", ())):
            if operation.aug_fn is theirs:
                operation.aug_fn = posterized


def posterized(image: "Image.Image", bits: int, **options: Any) -> "Image.Image":
    """`image` with the highest `bits` of each channel alone; of the mode and size that it had."""
    if bits < 1:
        from PIL import Image

        return Image.new(image.mode, image.size)
    picture: Image.Image = extras.require("timm.data.auto_augment", "train").posterize(image, bits, **options)
    return picture
