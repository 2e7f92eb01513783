"""The range of the sharpness μ."""

import math
from dataclasses import dataclass

from proxconnect._support.arguments import require_number


@dataclass(frozen=True)
class Sharpness:
    """The range of μ for inputs of mean magnitude 1: the lowest allowed value, the usual start and the usual end.

    μ must be positive and at least `lowest`.
    """

    lowest: float = 0.0
    start: float = 1.0
    end: float = 1.0

    def contains(self, mu: float) -> bool:
        """Return True if μ is finite, positive and not below `lowest`."""
        return math.isfinite(mu) and mu > 0 and mu >= self.lowest

    def require(self, mu: float, owner: str) -> None:
        """Raise ValueError for a μ outside the domain, TypeError for no number; messages begin with `owner`."""
        require_number(mu, f"{owner}: μ")
        if not self.contains(mu):
            bound = f"μ >= {self.lowest:g}" if self.lowest > 0 else "μ > 0"
            raise ValueError(f"{owner} needs a finite sharpness {bound}; got μ = {mu:g}")

    def for_magnitude(self, magnitude: float) -> "Sharpness":
        """Return the range for inputs of mean magnitude `magnitude`, since F depends on μx.

        A range that starts at its lowest value is as soft as possible and keeps that start.
        """
        start = self.start if self.start == self.lowest else self.start / magnitude
        return Sharpness(self.lowest, start, self.end / magnitude)
