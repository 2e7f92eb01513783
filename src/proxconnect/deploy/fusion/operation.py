"""Fused operations: calls of a kernel in the place of layers, which compute what the kernel does not take."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.fx import Node

from proxconnect.deploy.fusion.closeness import ROUNDING
from proxconnect.deploy.fusion.steps import EpilogueStep, run

if TYPE_CHECKING:
    from proxconnect.deploy.fusion.rewriting import Rewriting

_IN_FLOATS = 2.0**-20
"""By how much of itself a sum may change with the rounding of what follows it."""
_AFTER_SUMS = 2.0**-16
"""By how much of the largest entry of a channel norms and curves may change what they make of equal sums."""


class Operation:
    """A kernel with epilogue steps, in the place of nodes of a graph: the base of all fused operations.

    A class says where it matches (`match`), how it runs (`__call__`), how its layers compute the same (`by_layers`) and
    what reports count (`counts`). The rest tells a proof and the graph how to treat it. `operations.OPERATIONS` lists
    the classes.
    """

    name: ClassVar[str] = ""
    """What reports count."""
    is_binary: ClassVar[bool] = False
    """Whether it multiplies by binary weights."""
    is_fast: ClassVar[bool] = False
    """Whether the kernel computes floats that torch would, with other rounding."""
    reads_any_layout: ClassVar[bool] = False
    """Whether it takes images in any memory format without a copy."""
    keeps_images_apart: ClassVar[bool] = True
    """Whether the output for an image is the same in any batch."""
    has_channels: ClassVar[bool] = True
    """Whether a proof compares each channel with its own largest entry."""
    sums_integers: bool = False
    pool: nn.MaxPool2d | None = None
    """What follows the steps."""

    def __init__(self, kernel: Callable[..., Any], steps: Sequence[EpilogueStep], *, are_images: bool) -> None:
        self.kernel, self.steps, self.are_images = kernel, tuple(steps), are_images
        self._memory_format = torch.channels_last if are_images else torch.contiguous_format
        self._dims = 4 if are_images else 2 if any(step.dim == 1 for step in steps) else None

    @classmethod
    def match(cls, work: "Rewriting", node: Node) -> "Match | None":
        """Return the operation that computes a node with those around it, or None."""
        raise NotImplementedError

    def __call__(self, input: Any, *others: Any) -> Any:
        """Run the kernel on an input and on what its steps add, or the layers if it does not take these."""
        seen = self.seen(input)
        answer = None if seen is None else self._added(seen, others) if others else self.kernel(seen)
        return self.by_layers(input, *others) if answer is None else answer

    def by_layers(self, input: Any, *others: Any) -> Tensor:
        """Compute the same with the layers themselves, as floats."""
        return self.after(self.sums(input), *others)

    def bounds(self, input: Any, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the layers compute, and what of sums that are off by their rounding in either direction."""
        sums = self.sums(input)
        change = self.rounding(input, sums)
        low, middle, high = (self.after(s, *others) for s in (sums - change, sums, sums + change))
        return middle, low, high

    def sums(self, input: Any) -> Tensor:
        """Compute what the steps take, with the layer itself."""
        return input  # type: ignore[no-any-return]  # a tensor, unless a subclass takes bits

    def after(self, sums: Tensor, *others: Any) -> Tensor:
        """Compute what follows the sums, with torch."""
        value = run(self.steps, sums, others)
        return value if self.pool is None else self.pool(value)

    def seen(self, input: Any) -> Any:
        """Return what the kernel reads of an input, or None if it does not take it."""
        return input if input.dtype is torch.float32 and self._dims in (None, input.dim()) else None

    def counts(self) -> dict[str, int]:
        """Return what reports count, by name."""
        return {self.name: 1}

    def tolerance(self) -> float:
        """Return how far an answer may be off: not at all for sums of integers that no norm or curve follows."""
        is_exact = self.sums_integers and all(step.is_exact for step in self.steps)
        return 0.0 if is_exact else _AFTER_SUMS if self.has_channels and not self.is_fast else ROUNDING

    def rounding(self, input: Tensor, sums: Tensor) -> Tensor:
        """Return how far the sums before the steps may be off, in both directions."""
        return sums.abs() * _IN_FLOATS

    def _added(self, seen: Any, others: tuple[Any, ...]) -> Any:
        """Run the kernel, or return None if the addends cannot lie as its output does.

        Numbers, other dtypes and shapes that torch broadcasts are left to torch, with the errors that it raises.
        """
        laid_out = []
        try:
            for other in others:
                if not isinstance(other, Tensor) or other.dtype is not torch.float32:
                    return None
                laid_out.append(other.contiguous(memory_format=self._memory_format))
            return self.kernel(seen, *laid_out)
        except (RuntimeError, ValueError):  # another shape
            return None


@dataclass(frozen=True)
class Match:
    """An operation, and its place in a graph."""

    operation: Operation
    nodes: Sequence[Node]
    """The nodes that it replaces, which follow each other; it gives the value of the last one."""
    inputs: tuple[Any, ...]
    """What it is called with, before what its steps add."""
    read: Sequence[nn.Module] = ()
    """The modules whose numbers went into it, but for those of its steps."""
