"""Float networks by name: ours, those of timm and those of torchvision."""

import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, cast

from torch import Tensor, nn

from proxconnect._support import extras
from proxconnect._support.user_code import load
from proxconnect.training.models import residual
from proxconnect.training.models.bireal import KEEP, bireal_resnet18, react_resnet18

Size = tuple[int, int, int]  # channels, height and width of an image

EDGES = ("edges",)


@dataclass(frozen=True)
class Named:
    """A description of a float network that `find` knows by name, with a `title` to print.

    Call `build` with any of classes, in_channels, image_size, pretrained (downloads weights) and the network's own
    options; ValueError if it cannot be built. `input_size` returns the usual size of images of a network that was
    built. `keep` names the layers that usually stay float, as `binarize` takes them.
    """

    title: str
    build: Callable[..., nn.Module]
    input_size: Callable[[nn.Module], Size]
    keep: tuple[str, ...] = EDGES


def _of_timm(name: str) -> tuple[Named | None, list[str]]:
    """Return the network of timm with that name and [], or None and the names that timm has."""
    timm = extras.require("timm", "bench")
    if not timm.is_model(name):
        return None, timm.list_models()

    def build(*, pretrained: bool = False, image_size: int | None = None, **told: Any) -> nn.Module:
        theirs = {"classes": "num_classes", "in_channels": "in_chans"}
        given = {theirs.get(key, key): value for key, value in told.items()}
        if image_size is not None and _built(name, lambda: timm.get_pretrained_cfg(name).fixed_input_size):
            given["img_size"] = image_size
        return cast(nn.Module, _built(name, lambda: timm.create_model(name, pretrained=pretrained, **given)))

    def input_size(model: nn.Module) -> Size:
        return cast(Size, timm.data.resolve_model_data_config(model)["input_size"])

    return Named(f"{name} of timm {timm.__version__}", build, input_size), []


def _of_torchvision(name: str) -> tuple[Named | None, list[str]]:
    """Return the network of torchvision with that name and [], or None and the names that torchvision has."""
    models = extras.require("torchvision.models", "bench")
    names = models.list_models(module=models)
    if name not in names:
        return None, names

    def build(
        *, pretrained: bool = False, in_channels: int = 3, image_size: int | None = None, **told: Any
    ) -> nn.Module:
        if in_channels != 3:
            raise ValueError(f"torchvision's {name} takes images of 3 channels, not {in_channels}: name one of timm")
        given = {"num_classes" if key == "classes" else key: value for key, value in told.items()}
        if image_size is not None and name.startswith("vit_"):
            given["image_size"] = image_size
        model: nn.Module = _built(name, lambda: models.get_model(name, weights=None, **given))
        if pretrained:
            weights = models.get_model_weights(name).DEFAULT
            state = _built(name, lambda: weights.get_state_dict(check_hash=True, weights_only=True))
            _take(name, model, state, told.get("classes"))
        return model

    version = extras.require("torchvision", "bench").__version__
    return Named(f"{name} of torchvision {version}", build, lambda _: (3, 224, 224)), []


LIBRARIES = {"timm": _of_timm, "torchvision": _of_torchvision}  # where to look after our own names, in this order


def _built(name: str, build: Callable[[], Any]) -> Any:
    """Call `build`, and turn any error of it into a ValueError with the name of the network."""
    try:
        return build()
    except Exception as error:  # the libraries raise any kind, as for weights that do not exist
        raise ValueError(f"{name!r} cannot be built ({type(error).__name__}: {error})") from error


def _take(name: str, model: nn.Module, state: dict[str, Tensor], classes: int | None) -> None:
    """Load the tensors whose shapes fit; ValueError if others than those of a head of other classes do not fit."""
    own = model.state_dict()
    others = [key for key, value in state.items() if own[key].shape != value.shape]
    wrong = [key for key in others if len(own[key]) != classes]
    if wrong:
        raise ValueError(f"the pretrained weights of {name} are not of this size: {wrong[0]!r} has shape "
                         f"{tuple(state[wrong[0]].shape)}, here {tuple(own[wrong[0]].shape)}; leave image_size and "
                         "other options as they are")  # fmt: skip
    model.load_state_dict(own | {key: value for key, value in state.items() if key not in others})


def small_vit(
    image_size: int = 28, in_channels: int = 1, classes: int = 10, *, patch: int | None = None, dim: int = 64,
    depth: int = 4, heads: int = 4, **options: Any,
) -> nn.Module:  # fmt: skip
    """Build a small `VisionTransformer` of timm (Dosovitskiy 2021, arXiv 2010.11929) from `depth` attention blocks.

    `patch` is the height and width of a patch, by default `usual_patch(image_size)`, and `dim` the size of a token. The
    `options` go to timm's class. ValueError if `patch` does not divide `image_size`, or `heads` does not divide `dim`.
    """
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
    """Return the largest divisor of `image_size` up to the lesser of 7 and `image_size` / 4; ValueError below 4."""
    if image_size < 4:
        raise ValueError(f"an image of {image_size} is too small for four patches in a row")
    return max(size for size in range(1, min(7, image_size // 4) + 1) if image_size % size == 0)


@dataclass(frozen=True)
class Network:
    """The options that choose a float network by its name; `build` makes it for a data module.

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
        """Return a new network for the classes, channels and image size of `data`, a data module.

        MODULE:CALLABLE gets the options alone. ValueError if another network cannot be built.
        """
        if ":" in self.name:
            return cast(nn.Module, load(self.name)(**self.options))
        return find(self.name).build(
            classes=data.classes, in_channels=data.in_channels, image_size=data.image_size, pretrained=self.pretrained,
            **self.options,
        )  # fmt: skip


def find(name: str) -> Named:
    """Return the description of the network `name`: one of ours (`OURS`), else of timm, else of torchvision.

    "timm/NAME" and "torchvision/NAME" look only in that library. ValueError for an unknown name, with close matches;
    MissingExtraError if no library to look in is installed.
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
    """Return the names of all networks of timm and torchvision, as far as these are installed."""
    found: dict[str, None] = {}
    for finder in LIBRARIES.values():
        with suppress(extras.MissingExtraError):
            found |= dict.fromkeys(finder("")[1])
    return list(found)


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
    "bireal_resnet18": _ours("bireal_resnet18", "Bi-Real ResNet-18", bireal_resnet18, (3, 224, 224), KEEP),
    "react_resnet18": _ours("react_resnet18", "ReAct ResNet-18", react_resnet18, (3, 224, 224), KEEP),
    "small_vit": _ours("small_vit", "small ViT", small_vit, (1, 28, 28)),
}
