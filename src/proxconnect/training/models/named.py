"""What a name of a network stands for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

Size = tuple[int, int, int]
"""Channels, height and width of an image."""

EDGES = ("edges",)


@dataclass(frozen=True)
class Named:
    """What a name stands for."""

    title: str
    build: Callable[..., nn.Module]
    """The network, from those keyword arguments of `names.build` that are told."""
    input_size: Callable[[nn.Module], Size]
    """The size of the images that such a network usually takes."""
    keep: tuple[str, ...] = EDGES
    """What of it usually stays float, as `binarize` takes it."""


def built(name: str, build: Callable[[], Any]) -> Any:
    """What `build` returns; ValueError that names the network for whatever it raises."""
    try:
        return build()
    except Exception as error:  # whatever theirs raise, as for a tag of weights that there is not
        raise ValueError(f"{name!r} cannot be built ({type(error).__name__}: {error})") from error
