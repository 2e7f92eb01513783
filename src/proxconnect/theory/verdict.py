"""The answer to whether a pair is legitimate."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from proxconnect.theory.blackbox import Function
from proxconnect.theory.curves import ProxCurve, TransformCurve
from proxconnect.theory.declaration import DeclaredTransform
from proxconnect.theory.plateaus import CONSTANT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ANSWERS = {True: "legitimate", False: "not legitimate", None: "cannot tell"}
"""`legitimate` in words."""

TOLERANCE = CONSTANT
"""What a verdict rests on: jumps of F and variations of B on a plateau below this share of their size go unseen."""


@dataclass(frozen=True)
class Verdict:
    """Whether (F, B) = (T∘P, T'∘P) for a transform T and a proximal quantiser P, and why."""

    name: str
    mu: float | None
    legitimate: bool | None
    """None where float64 cannot decide."""
    reason: str
    """One sentence: the rule that fails, or why none does."""
    interval: tuple[float, float] | None
    """Where it fails, or where a legitimate pair rests on the convention, the ends equal for a point; else None."""
    by_convention: bool
    """Whether only the convention decides, by which T crosses a gap of P with the slope that B has at the jump."""
    domain: tuple[float, float]
    """The part of the line that was looked at."""
    forward: Function = field(repr=False)
    """F at that μ."""
    backward: Function = field(repr=False)
    """B at that μ."""
    prox: ProxCurve | None = field(default=None, repr=False)
    """P with F = T∘P and B = T'∘P; None where there is none."""
    transform: TransformCurve | DeclaredTransform | None = field(default=None, repr=False)
    """T, with its `derivative`."""
    declared: bool | None = None
    """Whether a `Pair` is what it declares: P never falls, T' is the derivative of T. None for other subjects."""

    @property
    def regularizer(self) -> Callable[[Tensor], Tensor] | None:
        """r with P(x) = argmin_z ½(z - x)² + r(z), up to a constant."""
        return None if self.prox is None else self.prox.regularizer

    def __str__(self) -> str:
        at = "" if self.mu is None else f" at μ = {self.mu:g}"
        convention = " (by convention)" if self.by_convention else ""
        return f"{self.name}{at}: {ANSWERS[self.legitimate]}{convention}. {self.reason}"

    def plot(self) -> "Figure":
        """F and B, the interval that decides, and P, T and r where they exist; needs the extra `plots`."""
        from proxconnect.theory.verdict_plot import plot_verdict

        return plot_verdict(self)
