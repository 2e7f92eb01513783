"""A graph that is being rewritten."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn
from torch.fx import Node

from proxconnect.deploy.fusion.operation import Match
from proxconnect.deploy.fusion.origins import stand_for
from proxconnect.deploy.fusion.steps import EpilogueStep, chain_from


@dataclass
class Rewriting:
    """A graph that is being rewritten, and what was fused."""

    graph: fx.Graph
    modules: dict[str, nn.Module]
    traced: fx.Graph
    """The graph as it was before."""
    has_fast_floats: bool = False
    """Whether kernels may compute floats that torch would, with other rounding."""
    has_images: bool = False
    """Whether images have their channels last."""
    nothing: dict[str, str] = field(default_factory=dict)
    """By the name of a traced node that was left out, the name of the node whose value it gives back."""
    read: list[nn.Module] = field(default_factory=list)
    """The modules whose numbers went into operations, or that were left out."""
    counts: Counter[str] = field(default_factory=Counter)
    """What was fused, by the names of operations."""

    def module_of(self, node: Any) -> nn.Module | None:
        """Return the module that a node calls with one argument, if it has the forward of its class."""
        if not isinstance(node, Node) or node.op != "call_module" or len(node.args) != 1 or node.kwargs:
            return None
        module = self.modules[str(node.target)]
        return None if "forward" in vars(module) else module

    def chain(self, head: Node, channels: int, *, are_images: bool) -> list[EpilogueStep]:
        """Return the epilogue steps that follow a node."""
        return chain_from(head, self.modules, channels, are_images=are_images)

    def put(self, match: Match) -> None:
        """Put one call of an operation in the place of the nodes that it replaces."""
        operation: Any = match.operation
        nodes, steps = match.nodes, operation.steps
        self.counts.update(operation.counts())
        self.read += [*match.read, *(step.module for step in steps if step.module is not None)]
        # The code that is made of a graph calls an object by its name.
        operation.__name__ = operation.__qualname__ = f"fused_{nodes[0].name}"
        arguments = (*match.inputs, *(step.other for step in steps if step.other is not None))
        with self.graph.inserting_after(nodes[-1]):
            call = self.graph.call_function(operation, arguments)
        stand_for(call, nodes)
        nodes[-1].replace_all_uses_with(call)
        before = nodes[0].all_input_nodes
        for node in reversed(nodes):
            self.graph.erase_node(node)
        for value in before:
            if value.op == "call_module" and not value.users:  # the operation computes it too
                self.graph.erase_node(value)
