"""Networks by name: those of timm and of torchvision, and Bi-Real Net, which neither has."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

from proxconnect import extras
from proxconnect.bench.examples import of_shapes
from proxconnect.training.models import bireal


@dataclass(frozen=True)
class Network:
    """How to build a float network, and what it takes."""

    title: str
    build: Callable[[], nn.Module]
    example: Callable[[nn.Module], Any] | None
    """From the network to its usual input; None where that is unknown."""
    keep: tuple[str, ...] = ("edges",)
    """What of it usually stays float, as `binarize` takes it."""


def named(name: str) -> Network:
    """A network with untrained weights: one of ours, else of timm, else of torchvision.

    ValueError for an unknown name, with the near ones, MissingExtraError where neither library is installed.
    """
    if name in OURS:
        return OURS[name]
    known = list(OURS)
    missing: list[extras.MissingExtraError] = []
    for package, find in (("timm", _of_timm), ("torchvision.models", _of_torchvision)):
        try:
            library = extras.require(package, "bench")
        except extras.MissingExtraError as error:
            missing.append(error)
            continue
        network, names = find(library, name)
        if network is not None:
            return network
        known += names
    if len(known) == len(OURS):
        raise missing[0]
    lacks = "".join(f" ({error.name} is not installed)" for error in missing)
    near = ", ".join(map(repr, get_close_matches(name, dict.fromkeys(known), n=3, cutoff=0.5)))
    guess = f"; near names are {near}" if near else ""
    raise ValueError(f"no network {name!r} in timm and torchvision{lacks}{guess}; one of your own is MODULE:CALLABLE")


OURS = {
    "bireal_resnet18": Network(
        "Bi-Real ResNet-18", bireal.bireal_resnet18, lambda _: of_shapes([(1, 3, 224, 224)]), bireal.KEEP
    )
}


def _built(name: str, build: Callable[[], nn.Module]) -> nn.Module:
    try:
        return build()
    except Exception as error:  # whatever theirs raise, as for a tag of weights that there is not
        raise ValueError(f"{name!r} cannot be built ({type(error).__name__}: {error})") from error


def _of_timm(timm: Any, name: str) -> tuple[Network | None, list[str]]:
    if not timm.is_model(name):
        return None, timm.list_models()

    def example(model: nn.Module) -> tuple[Tensor, ...]:
        return of_shapes([(1, *timm.data.resolve_model_data_config(model)["input_size"])])

    def build() -> nn.Module:
        return _built(name, lambda: timm.create_model(name, pretrained=False))

    return Network(f"{name} of timm {timm.__version__}", build, example), []


def _of_torchvision(models: Any, name: str) -> tuple[Network | None, list[str]]:
    names = models.list_models(module=models)
    if name not in names:
        return None, names
    version = extras.require("torchvision", "bench").__version__

    def build() -> nn.Module:
        return _built(name, lambda: models.get_model(name, weights=None))

    def example(_: nn.Module) -> tuple[Tensor, ...]:
        return of_shapes([(1, 3, 224, 224)])

    return Network(f"{name} of torchvision {version}", build, example), []
