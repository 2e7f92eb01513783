"""Fused operations, and the torch.fx graph whose nodes they replace."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, fx, nn
from torch.fx import Node

from proxconnect.deploy.fusion.closeness import ROUNDING
from proxconnect.deploy.fusion.steps import EpilogueStep, is_gelu, run, step_of
from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.kernels.library import has_vectors

_IN_FLOATS = 2.0**-20
"""The rounding error of a sum, relative to |sum|, from which `Operation.bounds` computes its range."""
_AFTER_SUMS = 2.0**-16
"""The rounding error of norms and activation functions, relative to the largest entry of the channel."""


class Operation:
    """The base class of fused operations: kernel calls with epilogue steps that replace nodes of a torch.fx graph.

    `kernel` computes the output from the inputs and the addends, or returns None if it does not support them.
    `are_images` is True for images (N, C, H, W), and False for rows (…, features).
    """

    name: ClassVar[str] = ""
    """The name under which reports count the operation; empty if they do not."""
    is_binary: ClassVar[bool] = False
    """True if it multiplies by binary weights."""
    is_fast: ClassVar[bool] = False
    """True if the kernel replaces a float operation of torch, with different rounding."""
    reads_any_layout: ClassVar[bool] = False
    """True if it reads images in any memory format without a copy."""
    keeps_images_apart: ClassVar[bool] = True
    """True if the output for an image does not depend on the other images of the batch."""
    has_channels: bool = True
    """True if errors are relative to the largest entry of each channel, False if to that of the whole output.

    It is False for a GELU, because torch's own error far below 0 is larger than the values.
    """
    lost_dims: int = 0
    """The number of dimensions by which the output has fewer than the input."""
    sums_integers: bool = False
    """True if the values before the steps are integer sums times scales, plus biases."""
    layer: Any = None
    """The replaced layer before the steps."""
    pool: nn.MaxPool2d | None = None  # after the steps

    def __init__(self, kernel: Callable[..., Any], steps: Sequence[EpilogueStep], *, are_images: bool) -> None:
        self.kernel, self.steps, self.are_images = kernel, tuple(steps), are_images
        self._memory_format = torch.channels_last if are_images else torch.contiguous_format
        has_columns = any(step.channels is not None and step.channels[1] == 1 for step in steps)
        self.has_channels = self.has_channels and not any(step.has_fast_gelu for step in steps)
        self._dims = 4 if are_images else 2 if has_columns else None

    @classmethod
    def match(cls, work: "Rewriting", node: Node) -> "Match | None":
        """Return the match of `node`: an operation of this class and the nodes that it replaces; None if none fits."""
        raise NotImplementedError

    def __call__(self, input: Any, *others: Any) -> Any:
        """Return the output for an input and the steps' addends; the layers compute it if the kernel cannot."""
        taken = self.kernel_input(input)
        answer = None if taken is None else self._added(taken, others) if others else self.kernel(taken)
        return self.by_layers(input, *others) if answer is None else answer

    def by_layers(self, input: Any, *others: Any) -> Tensor:
        """Compute the output for an input and the addends of the steps with the replaced layers, as floats."""
        return self.after(self.sums(input), *others)

    def bounds(self, input: Any, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return the layers' output, and what it is for sums lowered and for sums raised by `rounding`, as floats."""
        sums = self.sums(input)
        change = self.rounding(input, sums)
        low, middle, high = (self.after(s, *others) for s in (sums - change, sums, sums + change))
        return middle, low, high

    def sums(self, input: Any) -> Tensor:
        """Compute the value before the first step from the operation's input, with the replaced layer if any."""
        sums: Tensor = input if self.layer is None else self.layer(input)
        return sums

    def after(self, sums: Tensor, *others: Any) -> Tensor:
        """Run the steps, with the addends `others`, and the pool on the sums, with torch, and return the output."""
        value = run(self.steps, sums, others)
        return value if self.pool is None else self.pool(value)

    def kernel_input(self, input: Any) -> Any:
        """Return the input in the form that the kernel takes, or None if the kernel does not support it."""
        return input if input.dtype is torch.float32 and self._dims in (None, input.dim()) else None

    def counts(self) -> dict[str, int]:
        """Return the numbers that reports add up for this operation, by name: by default 1 under `name`, if any."""
        return {self.name: 1} if self.name else {}

    def tolerance(self) -> float:
        """Return the largest allowed error, relative to the largest entry (see `has_channels`); 0 if all is exact."""
        is_exact = self.sums_integers and all(step.is_exact for step in self.steps)
        return 0.0 if is_exact else _AFTER_SUMS if self.has_channels and not self.is_fast else ROUNDING

    def rounding(self, input: Tensor, sums: Tensor) -> Tensor:
        """Return a bound on the absolute rounding error of each sum: by default a fixed share of |sum|."""
        return sums.abs() * _IN_FLOATS

    def _added(self, taken: Any, others: tuple[Any, ...]) -> Any:
        """Run the kernel with addends laid out as its output; None for others, so that torch adds them or raises."""
        try:
            return self.kernel(taken, *others)
        except (RuntimeError, TypeError, ValueError):  # another layout, dtype or shape
            pass
        if not all(isinstance(other, Tensor) and other.dtype is torch.float32 for other in others):
            return None
        try:
            return self.kernel(taken, *(other.contiguous(memory_format=self._memory_format) for other in others))
        except (RuntimeError, ValueError):  # another shape
            return None


def has_kernels(layer: CompactLayer) -> bool:
    """Prepack a changed compact layer again; return True if it is prepacked for CPUs, with float32 scale and bias."""
    layer.prepack_if_changed()
    dtypes = {layer.scale.dtype, torch.float32 if layer.bias is None else layer.bias.dtype}
    return layer.prepacked is not None and layer.prepacked.is_cpu and dtypes == {torch.float32}


@dataclass(frozen=True)
class Match:
    """A record of a fused operation and the nodes of a torch.fx graph that it replaces."""

    operation: Operation
    nodes: Sequence[Node]
    """The replaced nodes, in order. The operation computes the value of the last one."""
    inputs: tuple[Any, ...]
    """The arguments of the call, without the addends of epilogue steps."""
    read: Sequence[nn.Module] = ()
    """The modules whose values were copied into the operation, except those of its epilogue steps."""


SHIFTED = ".shifted"
"""The end of the name of a traced node's input after the input shift of its layer."""
_KEY = "proxconnect_origins"


def origins(node: Node) -> tuple[str, ...]:
    """Return the names of the traced nodes that a rewritten node stands for; it has the value of the last one.

    An input shift was part of its layer's node: its name is that node's, followed by `SHIFTED`.
    """
    if _KEY not in node.meta:  # it was inserted to copy its first argument, or to change its layout
        return origins(node.all_input_nodes[0])
    names: tuple[str, ...] = node.meta[_KEY]
    return names


def set_origins(node: Node, names: Sequence[str]) -> None:
    """Record on a node of the rewritten graph the names of the traced nodes that it replaces, for `origins`."""
    node.meta[_KEY] = tuple(names)


@dataclass
class Rewriting:
    """A torch.fx graph whose nodes are being replaced by fused operations, and a record of the replacements."""

    graph: fx.Graph
    modules: dict[str, nn.Module]
    """The modules of the model by name."""
    traced: fx.Graph
    """A copy of the graph before it was rewritten."""
    has_fast_floats: bool = False
    """True if kernels may replace float operations of torch, with different rounding."""
    has_images: bool = False
    """True if the graph computes images in the memory format channels_last."""
    identities: dict[str, str] = field(default_factory=dict)
    """For each traced node that returned its input and was removed: its name, and the name of its input."""
    read: list[nn.Module] = field(default_factory=list)
    """The modules whose values were copied into operations, and those that were removed."""
    counts: Counter[str] = field(default_factory=Counter)
    """The number of fused operations by name (`Operation.counts`)."""

    def module_of(self, node: Any) -> nn.Module | None:
        """Return the module that a node calls with one argument; None if it calls none, or its forward was replaced."""
        if not isinstance(node, Node) or node.op != "call_module" or len(node.args) != 1 or node.kwargs:
            return None
        module = self.modules[str(node.target)]
        return None if "forward" in vars(module) else module

    def chain(self, head: Node, channels: int, *, are_images: bool) -> list[EpilogueStep]:
        """Return the epilogue steps after `head`, in order, as long as one fits and alone uses the value before it."""
        steps: list[EpilogueStep] = []
        value = head
        while len(value.users) == 1:
            (node,) = value.users
            step = step_of(node, value, self.modules)
            if step is None or step.channels not in (None, (channels, 1), (channels, -3 if are_images else -1)):
                break
            has_fast_gelu = self.has_fast_floats and has_vectors() and is_gelu(step)
            steps.append(replace(step, has_fast_gelu=has_fast_gelu))
            value = node
        return steps

    def put(self, match: Match) -> None:
        """Replace the nodes of a match by one call of its operation, and add it to `counts` and `read`."""
        operation: Any = match.operation
        nodes, steps = match.nodes, operation.steps
        self.counts.update(operation.counts())
        self.read += [*match.read, *(step.module for step in steps if step.module is not None)]
        # The code that is made of a graph calls an object by its name.
        operation.__name__ = operation.__qualname__ = f"fused_{nodes[0].name}"
        arguments = (*match.inputs, *(step.other for step in steps if step.other is not None))
        with self.graph.inserting_after(nodes[-1]):
            call = self.graph.call_function(operation, arguments)
        set_origins(call, [name for node in nodes for name in origins(node)])
        nodes[-1].replace_all_uses_with(call)
        before = nodes[0].all_input_nodes
        for node in reversed(nodes):
            self.graph.erase_node(node)
        for value in before:
            if value.op == "call_module" and not value.users:  # the operation computes it too
                self.graph.erase_node(value)
