"""The float network that a run begins with."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn

from proxconnect._support.user_code import load
from proxconnect.training.models import names


class PictureData(Protocol):
    """What a network must know of its data; every data module here has it."""

    @property
    def classes(self) -> int:
        """How many classes there are."""
        ...

    @property
    def in_channels(self) -> int:
        """How many channels a picture has."""
        ...

    @property
    def image_size(self) -> int:
        """Height and width of a picture, in pixels."""
        ...


@dataclass(frozen=True)
class Network:
    """A network by its name, made for the classes, channels and size of the data.

    Args:
        name: one of `proxconnect.training.models`, as resnet20, a name of torchvision or timm, or MODULE:CALLABLE,
            which is called with the options alone.
        options: further keyword arguments of what builds it, as width.
        pretrained: whether torchvision or timm fill it with their weights, which they download.
    """

    name: str = "resnet20"
    options: dict[str, Any] = field(default_factory=dict)
    pretrained: bool = False

    def build(self, data: PictureData) -> nn.Module:
        """The network, initialised by torch's global generator; ValueError for an unknown name, with near ones."""
        if ":" in self.name:
            own: nn.Module = load(self.name)(**self.options)
            return own
        return names.build(
            self.name, classes=data.classes, in_channels=data.in_channels, image_size=data.image_size,
            pretrained=self.pretrained, **self.options,
        )  # fmt: skip
