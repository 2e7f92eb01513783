"""The range of the sharpness μ that a map knows."""

import math
from dataclasses import dataclass

from proxconnect._support.arguments import require_number


@dataclass(frozen=True)
class Sharpness:
    """The values of μ for inputs of unit mean magnitude: the lowest allowed, the usual start and the usual end.

    μ must be positive and at least `lowest`.
    """

    lowest: float = 0.0
    start: float = 1.0
    end: float = 1.0

    def contains(self, mu: float) -> bool:
        """Whether μ is finite, positive and not below `lowest`."""
        return math.isfinite(mu) and mu > 0 and mu >= self.lowest

    def require(self, mu: float, owner: str) -> None:
        """Raise ValueError unless μ lies in the domain, TypeError unless it is a number; `owner` names the pair."""
        require_number(mu, f"{owner}: μ")
        if not self.contains(mu):
            bound = f"μ >= {self.lowest:g}" if self.lowest > 0 else "μ > 0"
            raise ValueError(f"{owner} needs a finite sharpness {bound}; got μ = {mu:g}")

    def for_magnitude(self, magnitude: float) -> "Sharpness":
        """The same range for inputs of mean magnitude `magnitude`, since F depends on μx.

        A range that starts at its lowest value is as soft as it can be and starts there for every input.
        """
        start = self.start if self.start == self.lowest else self.start / magnitude
        return Sharpness(self.lowest, start, self.end / magnitude)
