"""Float networks by name: ours, those of timm and those of torchvision."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from torch import nn

from proxconnect._support import extras
from proxconnect._support.user_code import load
from proxconnect.training.models import bireal, residual
from proxconnect.training.models.libraries import EDGES, LIBRARIES, Named, Size, small_vit


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
            find(self.name)

    def build(self, data: Any) -> nn.Module:
        """Build it for a data module, by torch's global generator; ValueError for an unknown name or option."""
        if ":" in self.name:
            own: nn.Module = load(self.name)(**self.options)
            return own
        return build(
            self.name, classes=data.classes, in_channels=data.in_channels, image_size=data.image_size,
            pretrained=self.pretrained, **self.options,
        )  # fmt: skip


def build(
    name: str, *, classes: int | None = None, in_channels: int | None = None, image_size: int | None = None,
    pretrained: bool = False, **options: Any,
) -> nn.Module:  # fmt: skip
    """Build the float network of a name; None stands for its usual value. ValueError and errors of `find`.

    Most convolutional networks need no `image_size`. With `pretrained`, a head of other classes is initialised.
    """
    sizes = {"classes": classes, "in_channels": in_channels, "image_size": image_size}
    told = {key: value for key, value in sizes.items() if value is not None}
    return find(name).build(pretrained=pretrained, **told, **options)


def find(name: str) -> Named:
    """Find a name in `OURS`, else timm, else torchvision; "timm/NAME" and "torchvision/NAME" ask only there.

    ValueError for an unknown name, with close matches; MissingExtraError if neither library is installed.
    """
    if name in OURS:
        return OURS[name]
    prefix, _, rest = name.rpartition("/")
    libraries = {library: finder for library, finder in LIBRARIES.items() if prefix in ("", library)}
    known = [] if prefix else list(OURS)
    missing: list[extras.MissingExtraError] = []
    for finder in libraries.values():
        try:
            found, names = finder(rest)
        except extras.MissingExtraError as error:
            missing.append(error)
            continue
        if found is not None:
            return found
        known += names
    if libraries and len(missing) == len(libraries):
        raise missing[0]
    lacks = "".join(f" ({error.name} is not installed)" for error in missing)
    raise ValueError(f"no network {name!r} in {' and '.join(libraries or LIBRARIES)}{lacks}{_near(rest, known)}")


def of_libraries() -> list[str]:
    """Return the names of timm and torchvision, as far as they are installed."""
    found: list[str] = []
    for finder in LIBRARIES.values():
        try:
            found += finder("")[1]
        except extras.MissingExtraError:
            continue
    return list(dict.fromkeys(found))


def _ours(name: str, title: str, make: Callable[..., nn.Module], usual: Size, keep: tuple[str, ...] = EDGES) -> Named:
    """Describe a network of ours, usually for images of size `usual`."""
    parameters = inspect.signature(make).parameters

    def build(*, pretrained: bool = False, **told: Any) -> nn.Module:
        if pretrained:
            raise ValueError(f"there are no pretrained weights of {name}: train it, or name a network of timm")
        if "image_size" not in parameters:
            told.pop("image_size", None)
        unknown = [key for key in told if key not in parameters]
        if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            raise ValueError(f"{name} takes no {unknown[0]!r}{_near(unknown[0], list(parameters))}: it takes "
                             f"{', '.join(parameters)}")  # fmt: skip
        try:
            return make(**told)
        except TypeError as error:  # of an option that a network hands on
            raise ValueError(f"{name} cannot be built: {error}") from error

    return Named(title, build, lambda _: usual, keep)


def _near(name: str, known: list[str]) -> str:
    near = ", ".join(map(repr, get_close_matches(name, dict.fromkeys(known), n=3, cutoff=0.5)))
    return f"; near names are {near}" if near else ""


OURS = {
    "small_cnn": _ours("small_cnn", "small CNN", residual.small_cnn, (1, 8, 8)),
    "resnet20": _ours("resnet20", "ResNet-20", residual.resnet20, (3, 32, 32)),
    "resnet32": _ours("resnet32", "ResNet-32", residual.resnet32, (3, 32, 32)),
    "resnet56": _ours("resnet56", "ResNet-56", residual.resnet56, (3, 32, 32)),
    "bireal_resnet20": _ours("bireal_resnet20", "Bi-Real ResNet-20", residual.bireal_resnet20, (3, 32, 32)),
    "bireal_resnet32": _ours("bireal_resnet32", "Bi-Real ResNet-32", residual.bireal_resnet32, (3, 32, 32)),
    "bireal_resnet56": _ours("bireal_resnet56", "Bi-Real ResNet-56", residual.bireal_resnet56, (3, 32, 32)),
    "bireal_resnet18": _ours(
        "bireal_resnet18", "Bi-Real ResNet-18", bireal.bireal_resnet18, (3, 224, 224), bireal.KEEP
    ),
    "react_resnet18": _ours("react_resnet18", "ReAct ResNet-18", bireal.react_resnet18, (3, 224, 224), bireal.KEEP),
    "small_vit": _ours("small_vit", "small ViT", small_vit, (1, 28, 28)),
}
