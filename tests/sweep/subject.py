"""What is swept: a network of someone else's, with an input."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Subject:
    """How to build a float network with random weights, and what it takes."""

    build: Callable[[], nn.Module]
    example: Callable[[], Any]
    """As `binarize` takes it; in `eval()`."""
    training: Callable[[], Any] | None = None
    """What it takes in `train()`, if that is something else."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of `binarize`."""
    idle: tuple[str, ...] = ()
    """Patterns on layers that get no gradient by design, in a step of this network."""
    telling: str = ""
    """The part whose answers count, where the whole has none, or they turn with the order of nearly equal scores."""
