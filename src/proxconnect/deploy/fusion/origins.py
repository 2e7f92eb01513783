"""Which nodes of a traced graph the nodes of its rewritten form stand for."""

from collections.abc import Sequence

from torch import fx
from torch.fx import Node

_KEY = "proxconnect_origins"


def note_names(graph: fx.Graph, traced: fx.Graph) -> None:
    """Let each node of a graph that is about to be rewritten stand for its twin in `traced`, a copy of the graph."""
    for node, twin in zip(graph.nodes, traced.nodes, strict=True):
        node.meta[_KEY] = (twin.name,)


def stand_for(call: Node, nodes: Sequence[Node]) -> None:
    """Let `call` stand for nodes that follow each other."""
    call.meta[_KEY] = tuple(name for node in nodes for name in origins(node))


def note_shifted(shift: Node, head: Node) -> None:
    """Let `shift` stand for the shifted input of the layer that `head` calls."""
    shift.meta[_KEY] = (shifted(head.name),)


def shifted(name: str) -> str:
    """Return the name of the shifted input of a traced node that calls a layer."""
    return f"{name}.shifted"


def origins(node: Node) -> tuple[str, ...]:
    """Return the names of the traced nodes that a node stands for, in order; it gives the value of the last one.

    A node that was inserted to copy or to lay out its first argument stands for the same nodes as that.
    """
    names: tuple[str, ...] = node.meta[_KEY] if _KEY in node.meta else origins(node.all_input_nodes[0])
    return names
