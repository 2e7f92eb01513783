"""The state of a torch.fx graph while its nodes are replaced by fused operations."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn
from torch.fx import Node

from proxconnect.deploy.fusion.operation import Match
from proxconnect.deploy.fusion.steps import EpilogueStep, step_of

_KEY = "proxconnect_origins"


def origins(node: Node) -> tuple[str, ...]:
    """Return the names of the traced nodes that a node of the rewritten graph replaces, in order.

    The node computes the value of the last one. A node that was inserted to copy its first argument, or to change its
    layout, has the origins of that argument.
    """
    names: tuple[str, ...] = node.meta[_KEY] if _KEY in node.meta else origins(node.all_input_nodes[0])
    return names


def set_origins(node: Node, names: Sequence[str]) -> None:
    """Set the names of the traced nodes that a node of the rewritten graph replaces."""
    node.meta[_KEY] = tuple(names)


def shifted(name: str) -> str:
    """Return the name for the shifted input of a layer that the traced node `name` calls."""
    return f"{name}.shifted"


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
    nothing: dict[str, str] = field(default_factory=dict)
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
        """Return the longest chain of epilogue steps after `head`; the graph does not change.

        Each step must be the only user of the value before it. The chain ends at the first node that is no epilogue
        step, or whose parameters do not fit `channels`. It may be empty, and kernels may support only its first steps.

        Args:
            head: the node before the first step.
            channels: the number of channels of its value.
            are_images: True if the value is (N, C, H, W), False if channels are the last dimension.
        """
        steps: list[EpilogueStep] = []
        value = head
        while len(value.users) == 1:
            (node,) = value.users
            step = step_of(node, value, self.modules)
            if step is None or not step.fits(channels, are_images=are_images):
                break
            steps.append(step)
            value = node
        return steps

    def put(self, match: Match) -> None:
        """Replace the nodes of a match by one call of its operation."""
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
