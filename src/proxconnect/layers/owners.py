"""Whose latent a parameter is: for optimizers, which are given parameters alone.

Layers are asked for the latents that they hold at the time, since a parameter carries no mark through copies, and
sharding puts others in its place.
"""

import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from proxconnect.layers.base import BinaryLayer

_layers: "weakref.WeakSet[BinaryLayer]" = weakref.WeakSet()


def enlist(layer: "BinaryLayer") -> None:
    """Let `owners` find the latent of `layer` for as long as the layer lives."""
    _layers.add(layer)


def owners(parameters: Iterable[Tensor]) -> "dict[Tensor, BinaryLayer]":
    """The binary layers that own latents among `parameters`, by the latent."""
    held: dict[Any, BinaryLayer] = {id(layer._parameters.get("latent")): layer for layer in list(_layers)}
    return {parameter: held[id(parameter)] for parameter in parameters if id(parameter) in held}
