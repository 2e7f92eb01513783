"""The base of the parts of a pair: prox maps and transforms."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor

from proxconnect.pairs.sharpness import Sharpness


class Part(ABC):
    """An immutable elementwise map of (x, μ), equal to any other with its type and attributes."""

    sharpness: Sharpness | None = None
    """The range of μ; None if the map does not depend on μ."""

    @abstractmethod
    def __call__(self, x: Tensor, mu: float | Tensor) -> Tensor:
        """Return the value at x, with the shape and dtype of `x`; `mu` is a float or a 0-dim tensor."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def common_sharpness(parts: Iterable[Part]) -> Sharpness | None:
    """Return the intersection of the ranges of μ; None if no part depends on μ."""
    ranges = [part.sharpness for part in parts if part.sharpness is not None]
    if not ranges:
        return None
    return Sharpness(max(r.lowest for r in ranges), max(r.start for r in ranges), max(r.end for r in ranges))


def widened(x: Tensor) -> Tensor:
    """Return `x` in float32 or wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
