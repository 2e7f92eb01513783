"""The answer to the question whether a pair is legitimate."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from proxconnect.theory.functions.blackbox import Function
from proxconnect.theory.verdicts.curves import ProxCurve, TransformCurve
from proxconnect.theory.verdicts.declaration import DeclaredTransform
from proxconnect.theory.verdicts.picture import plot_verdict
from proxconnect.theory.verdicts.plateaus import CONSTANT
from proxconnect.theory.verdicts.words import ANSWERS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOLERANCE = CONSTANT
"""Jumps of F and variations of B on a plateau below this share of their size go unseen."""


@dataclass(frozen=True)
class Verdict:
    """The answer whether (F, B) = (T∘P, T'∘P) for a transform T and a proximal quantiser P, with its reason.

    `prox`, `transform` and `regularizer` take float tensors of any shape and keep shape and dtype. They are None unless
    the pair is legitimate.
    """

    name: str
    mu: float | None
    """The sharpness; None if the pair does not depend on it."""
    legitimate: bool | None
    """None if float64 cannot decide."""
    reason: str
    """The rule that fails, or why none does, in one sentence."""
    interval: tuple[float, float] | None
    """The place that decides against the pair, or that needs the convention; equal ends for a point."""
    by_convention: bool
    """True if only the convention decides: T crosses a gap of P with the slope that B has at the jump."""
    domain: tuple[float, float]
    """The part of the line that was looked at."""
    forward: Function = field(repr=False)
    """F at that μ."""
    backward: Function = field(repr=False)
    """B at that μ."""
    prox: ProxCurve | None = field(default=None, repr=False)
    """P with F = T∘P and B = T'∘P."""
    transform: TransformCurve | DeclaredTransform | None = field(default=None, repr=False)
    """T, with its `derivative`."""
    declared: bool | None = None
    """True if a `Pair` is what it declares: P never falls, T' is the derivative of T. None for other subjects."""

    @property
    def regularizer(self) -> Callable[[Tensor], Tensor] | None:
        """r with P(x) = argmin_z ½(z - x)² + r(z), up to a constant."""
        return None if self.prox is None else self.prox.regularizer

    def __str__(self) -> str:
        at = "" if self.mu is None else f" at μ = {self.mu:g}"
        convention = " (by convention)" if self.by_convention else ""
        return f"{self.name}{at}: {ANSWERS[self.legitimate]}{convention}. {self.reason}"

    def plot(self) -> "Figure":
        """Draw F and B, the interval that decides, and P, T and r if they exist; needs the extra `plots`."""
        return plot_verdict(self)
