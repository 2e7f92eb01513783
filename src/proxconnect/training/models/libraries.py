"""Networks of timm and of torchvision, by name, and small ones of timm's classes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from proxconnect._support import extras

Size = tuple[int, int, int]
"""Channels, height and width of an image."""

EDGES = ("edges",)


@dataclass(frozen=True)
class Named:
    """A network that has a name."""

    title: str
    build: Callable[..., nn.Module]
    """Builds the network, from those keyword arguments of `names.build` that are given."""
    input_size: Callable[[nn.Module], Size]
    """Gives the usual size of the images of such a network."""
    keep: tuple[str, ...] = EDGES
    """The layers that usually stay float, as `binarize` takes them."""


def _of_timm(name: str) -> tuple[Named | None, list[str]]:
    """Return the network of timm with that name, or None and the names that timm has."""
    timm = extras.require("timm", "bench")
    if not timm.is_model(name):
        return None, timm.list_models()

    def build(*, pretrained: bool = False, image_size: int | None = None, **told: Any) -> nn.Module:
        theirs = {"classes": "num_classes", "in_channels": "in_chans"}
        given = {theirs.get(key, key): value for key, value in told.items()}
        if image_size is not None and _built(name, lambda: timm.get_pretrained_cfg(name).fixed_input_size):
            given["img_size"] = image_size
        model: nn.Module = _built(name, lambda: timm.create_model(name, pretrained=pretrained, **given))
        return model

    def input_size(model: nn.Module) -> Size:
        channels, height, width = timm.data.resolve_model_data_config(model)["input_size"]
        return channels, height, width

    return Named(f"{name} of timm {timm.__version__}", build, input_size), []


def _of_torchvision(name: str) -> tuple[Named | None, list[str]]:
    """Return the network of torchvision with that name, or None and the names that torchvision has."""
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


LIBRARIES: dict[str, Callable[[str], tuple[Named | None, list[str]]]] = {
    "timm": _of_timm,
    "torchvision": _of_torchvision,
}
"""Where names are looked up after our own, in this order."""


def _built(name: str, build: Callable[[], Any]) -> Any:
    """Call `build`, and turn any error of it into a ValueError with the name of the network."""
    try:
        return build()
    except Exception as error:  # the libraries raise any kind, as for weights that do not exist
        raise ValueError(f"{name!r} cannot be built ({type(error).__name__}: {error})") from error


def _take(name: str, model: nn.Module, state: dict[str, Tensor], classes: int | None) -> None:
    """Load the tensors of the shapes in the model, which all must have but a head of other classes."""
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
