"""Networks by name."""

from typing import Any

from torch import nn

from proxconnect.training.models.residual import resnet20, small_cnn

NETWORKS = {"resnet20": resnet20, "small_cnn": small_cnn}


def build(
    name: str, *, classes: int, in_channels: int, image_size: int, pretrained: bool = False, **options: Any
) -> nn.Module:
    """The network of that name."""
    return NETWORKS[name](in_channels=in_channels, classes=classes, **options)
