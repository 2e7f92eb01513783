"""The float network that a run begins with."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import nn

from proxconnect._support.user_code import load
from proxconnect.training.models import names

if TYPE_CHECKING:
    from proxconnect.training.data.modules import ImageData


@dataclass(frozen=True)
class Network:
    """A network by its name, built for the classes, channels and size of the data.

    Args:
        name: one of `proxconnect.training.models`, as resnet20, a name of torchvision or timm, or MODULE:CALLABLE,
            which is called with the options alone.
        options: further keyword arguments of the network, as width.
        pretrained: download and load the weights that torchvision or timm have of it.
    """

    name: str = "resnet20"
    options: dict[str, Any] = field(default_factory=dict)
    pretrained: bool = False

    def __post_init__(self) -> None:
        if ":" not in self.name:
            names.find(self.name)

    def build(self, data: "ImageData[Any]") -> nn.Module:
        """Return the network, initialised by torch's global generator; ValueError for an unknown name or option."""
        if ":" in self.name:
            own: nn.Module = load(self.name)(**self.options)
            return own
        return names.build(
            self.name, classes=data.classes, in_channels=data.in_channels, image_size=data.image_size,
            pretrained=self.pretrained, **self.options,
        )  # fmt: skip
