"""What one call of a module shows of its fused graph."""

from dataclasses import dataclass
from typing import Any

from proxconnect.deploy.fusion.closeness import ROUNDING, gap
from proxconnect.deploy.fusion.segments import Segment, Segments


@dataclass(frozen=True)
class Examination:
    """The traced graph beside the module's own forward, and each operation of the fused one beside its layers."""

    answer: Any
    """What the own forward answers."""
    trace_gap: float
    """How far the traced graph's answer, by the same layers, lies from that."""
    segments: tuple[Segment, ...] = ()
    error: str = ""
    """What the traced graph raises, which does not take these inputs then."""

    @property
    def is_faithful(self) -> bool:
        """Whether the traced graph does what the forward does."""
        return self.trace_gap <= ROUNDING

    def fault(self, difference: str) -> str:
        """Why the graph is wrong, whose answer shows a difference; empty if that is rounding which was amplified."""
        if not self.is_faithful:
            return difference
        return self.error or next((segment.fault for segment in self.segments if segment.fault), "")


def examination(segments: Segments, inputs: tuple[Any, ...], laid_out: tuple[Any, ...], answer: Any) -> Examination:
    """Examine a graph on inputs; `answer` is the own forward's, to the inputs laid out as the graph has them."""
    try:
        recording = segments.recorded(laid_out)
    except Exception as error:  # whatever its nodes raise
        return Examination(answer, 0.0, error=f"it raises {type(error).__name__}: {error}")
    trace_gap = gap(answer, recording.answer)
    compared = tuple(segments.compared(inputs, recording.values)) if trace_gap <= ROUNDING else ()
    return Examination(answer, trace_gap, compared)
