"""Where the time of a packed network goes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proxconnect.cli.bench.profile import SelfTime, by_kind


@dataclass(frozen=True)
class Shares:
    """Where the seconds of a run go: products with binary weights, the rest, and the model itself, which is Python."""

    binary: float
    remainder: float
    python: float
    kinds: Mapping[str, float]
    """The seconds by kind of module or operation, the longest first."""

    @classmethod
    def of(cls, parts: Sequence[SelfTime]) -> "Shares":
        binary = sum(part.seconds.median for part in parts if part.is_binary)
        python = sum(part.seconds.median for part in parts if not part.name and not part.is_binary)
        return cls(binary, sum(part.seconds.median for part in parts) - binary - python, python, by_kind(parts))

    def __str__(self) -> str:
        whole = self.binary + self.remainder + self.python
        told = {"binary": self.binary, "Python": self.python, "remainder": self.remainder}
        sums, kinds = (
            ", ".join(f"{kind} {100 * seconds / whole:.0f} %" for kind, seconds in some)
            for some in (told.items(), [*self.kinds.items()][:5])
        )
        return f"{sums} ({kinds})"
