"""Networks to measure, and what they take."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from proxconnect.cli.bench import language_models
from proxconnect.cli.bench.examples import of_shapes
from proxconnect.training.models import names
from proxconnect.training.models.libraries import EDGES


@dataclass(frozen=True)
class Network:
    """How to build a float network, and what it takes."""

    title: str
    build: Callable[[], nn.Module]
    example: Callable[[nn.Module], Any] | None
    """From the network to its usual input; None where that is unknown."""
    keep: tuple[str, ...] = EDGES
    """What of it usually stays float, as `binarize` takes it."""


LANGUAGE_MODELS = {
    "small_llama": Network("LLaMA, 768 wide, 12 layers", language_models.small_llama, language_models.prompt),
}
"""Those that have a name here, by transformers."""


def named(name: str) -> Network:
    """A network with untrained weights: one of ours, else of timm, else of torchvision.

    ValueError with the near names for an unknown one; MissingExtraError where neither library is installed.
    """
    if name in LANGUAGE_MODELS:
        return LANGUAGE_MODELS[name]
    try:
        found = names.find(name)
    except ValueError as error:
        written = ", ".join(LANGUAGE_MODELS)
        raise ValueError(f"{error}; {written} writes text, and one of your own is MODULE:CALLABLE") from None
    return Network(found.title, found.build, lambda model: of_shapes([(1, *found.input_size(model))]), found.keep)
