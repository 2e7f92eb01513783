"""The base class of fused operations: a kernel call that replaces layers of a torch.fx graph."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.fx import Node

from proxconnect.deploy.fusion.closeness import ROUNDING
from proxconnect.deploy.fusion.steps import EpilogueStep, run
from proxconnect.deploy.packed.layers.base import CompactLayer

if TYPE_CHECKING:
    from proxconnect.deploy.fusion.rewriting import Rewriting

_IN_FLOATS = 2.0**-20
"""The relative rounding error of a sum, from which `Operation.bounds` computes its range."""
_AFTER_SUMS = 2.0**-16
"""The rounding error of norms and activation functions, relative to the largest entry of the channel."""


class Operation:
    """A kernel call with epilogue steps that replaces nodes of a torch.fx graph.

    Each class defines where it matches (`match`), how the kernel runs (`__call__`), how the replaced layers compute the
    same (`by_layers`), and what reports count (`counts`). Other members tell proofs and the graph how to treat it.
    `passes.OPERATIONS` lists the classes.
    """

    name: ClassVar[str] = ""
    """The name under which reports count the operation."""
    is_binary: ClassVar[bool] = False
    """True if it multiplies by binary weights."""
    is_fast: ClassVar[bool] = False
    """True if the kernel replaces a float operation of torch, with different rounding."""
    reads_any_layout: ClassVar[bool] = False
    """True if it reads images in any memory format without a copy."""
    keeps_images_apart: ClassVar[bool] = True
    """True if the output for an image does not depend on the other images of the batch."""
    has_channels: ClassVar[bool] = True
    """True if errors are relative to the largest entry of each channel, False if to that of the whole output."""
    sums_integers: bool = False
    """True if the values before the steps are integer sums times scales, plus biases."""
    pool: nn.MaxPool2d | None = None
    """The max pool after the steps."""

    def __init__(self, kernel: Callable[..., Any], steps: Sequence[EpilogueStep], *, are_images: bool) -> None:
        self.kernel, self.steps, self.are_images = kernel, tuple(steps), are_images
        self._memory_format = torch.channels_last if are_images else torch.contiguous_format
        has_columns = any(step.channels is not None and step.channels[1] == 1 for step in steps)
        self._dims = 4 if are_images else 2 if has_columns else None

    @classmethod
    def match(cls, work: "Rewriting", node: Node) -> "Match | None":
        """Return an operation that replaces `node` and nodes around it, or None if there is none."""
        raise NotImplementedError

    def __call__(self, input: Any, *others: Any) -> Any:
        """Run the kernel on an input and the addends of its steps, or the layers if it does not support them."""
        seen = self.seen(input)
        answer = None if seen is None else self._added(seen, others) if others else self.kernel(seen)
        return self.by_layers(input, *others) if answer is None else answer

    def by_layers(self, input: Any, *others: Any) -> Tensor:
        """Compute the output with the replaced layers, as floats."""
        return self.after(self.sums(input), *others)

    def bounds(self, input: Any, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return the layers' output, and their outputs for sums lowered and raised by `rounding`."""
        sums = self.sums(input)
        change = self.rounding(input, sums)
        low, middle, high = (self.after(s, *others) for s in (sums - change, sums, sums + change))
        return middle, low, high

    def sums(self, input: Any) -> Tensor:
        """Compute the value before the first step, with the replaced layer."""
        return input  # type: ignore[no-any-return]  # a tensor, unless a subclass takes bits

    def after(self, sums: Tensor, *others: Any) -> Tensor:
        """Run the steps and the pool on the sums, with torch."""
        value = run(self.steps, sums, others)
        return value if self.pool is None else self.pool(value)

    def seen(self, input: Any) -> Any:
        """Return the input for the kernel, or None if the kernel does not support it."""
        return input if input.dtype is torch.float32 and self._dims in (None, input.dim()) else None

    def counts(self) -> dict[str, int]:
        """Return the numbers that reports add up, by name."""
        return {self.name: 1}

    def tolerance(self) -> float:
        """Return the largest allowed error, relative to the largest entry of the expected output.

        It is 0 for integer sums if all epilogue steps are exact: additions, shifts, clamps and slopes, but no norms or
        other activation functions. Otherwise it is 2^-16, relative to the largest entry of each channel, or 1e-4 for
        fast operations and operations without channels.
        """
        is_exact = self.sums_integers and all(step.is_exact for step in self.steps)
        return 0.0 if is_exact else _AFTER_SUMS if self.has_channels and not self.is_fast else ROUNDING

    def rounding(self, input: Tensor, sums: Tensor) -> Tensor:
        """Return the largest rounding error of each of the sums of an input."""
        return sums.abs() * _IN_FLOATS

    def _added(self, seen: Any, others: tuple[Any, ...]) -> Any:
        """Run the kernel with addends in the memory format of its output.

        Return None, so that torch adds or raises, for addends that are numbers, of another dtype or of another shape.
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


def has_kernels(layer: CompactLayer) -> bool:
    """Return True if a compact layer has prepacked weights, and its scale and bias are float32."""
    layer.prepack_if_changed()
    dtypes = {layer.scale.dtype, torch.float32 if layer.bias is None else layer.bias.dtype}
    return layer.prepacked is not None and dtypes == {torch.float32}


@dataclass(frozen=True)
class Match:
    """A fused operation and the consecutive nodes of a torch.fx graph that it replaces."""

    operation: Operation
    nodes: Sequence[Node]
    """The replaced nodes, in order. The operation computes the value of the last one."""
    inputs: tuple[Any, ...]
    """The arguments of the call, without the addends of epilogue steps."""
    read: Sequence[nn.Module] = ()
    """The modules whose values were copied into the operation, except those of its epilogue steps."""
