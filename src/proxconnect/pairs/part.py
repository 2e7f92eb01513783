"""The base of the parts of a pair, prox maps and transforms, and the range of their sharpness μ."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from proxconnect._support.arguments import number, positive


@dataclass(frozen=True)
class Sharpness:
    """The range of the sharpness μ for inputs of mean magnitude 1.

    Args:
        lowest: the lowest allowed μ. If it is 0, every positive μ is allowed.
        start: the μ with which training usually starts.
        end: the μ with which training usually ends.
        fixed: the μ of a pair that its authors train at one μ; it then moves only if you name a start or an end.
            None for a pair whose μ usually moves.

    Raises:
        ValueError: `lowest` is negative or not finite, or another number is not positive and finite.
        TypeError: an argument is no number.
    """

    lowest: float = 0.0
    start: float = 1.0
    end: float = 1.0
    fixed: float | None = None

    def __post_init__(self) -> None:
        checked = {"lowest": number(self.lowest, "lowest")}
        for name in ("start", "end") if self.fixed is None else ("start", "end", "fixed"):
            checked[name] = positive(getattr(self, name), name)
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if not 0 <= self.lowest < math.inf:
            raise ValueError(f"lowest must be finite and not below 0; got {self.lowest:g}")

    @property
    def unmoved(self) -> float:
        """The μ of a pair that no schedule moves: `fixed`, or `start` if that is None."""
        return self.start if self.fixed is None else self.fixed

    def contains(self, mu: float) -> bool:
        """Return True if μ is finite, positive and not below `lowest`."""
        return math.isfinite(mu) and mu > 0 and mu >= self.lowest

    def require(self, mu: float, owner: str) -> float:
        """Return μ as a float.

        ValueError for a μ that `contains` refuses, TypeError for no number; messages begin with `owner`.
        """
        given = number(mu, f"{owner}: μ")
        if not self.contains(given):
            bound = f"μ >= {self.lowest:g}" if self.lowest > 0 else "μ > 0"
            raise ValueError(f"{owner} needs a finite sharpness {bound}; got μ = {given:g}")
        return given

    def for_magnitude(self, magnitude: float) -> "Sharpness":
        """Return the range for inputs of mean `magnitude`.

        It divides `end`, `fixed`, and a `start` other than `lowest`.
        """
        start = self.start if self.start == self.lowest else self.start / magnitude
        fixed = None if self.fixed is None else self.fixed / magnitude
        return Sharpness(self.lowest, start, self.end / magnitude, fixed)


class Part(ABC):
    """The base class of prox maps and transforms: an immutable map of (x, μ), equal by type and attributes."""

    sharpness: Sharpness | None = None
    """The range of μ; None if the map does not depend on μ."""

    @abstractmethod
    def __call__(self, x: Tensor, mu: float | Tensor) -> Tensor:
        """Return the value at each entry of `x`, in its shape and dtype; `mu` is a float or a 0-dim tensor."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def common_sharpness(parts: Iterable[Part]) -> Sharpness | None:
    """Return the largest lowest, start and end of μ among `parts`; None if no part depends on μ."""
    ranges = [part.sharpness for part in parts if part.sharpness is not None]
    if not ranges:
        return None
    return Sharpness(max(r.lowest for r in ranges), max(r.start for r in ranges), max(r.end for r in ranges))


def widened(x: Tensor) -> Tensor:
    """Convert float16 and bfloat16 to float32; return float32 and float64 unchanged."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
