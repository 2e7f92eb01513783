"""Which nodes of a traced graph the nodes of its rewritten form stand for."""

from collections.abc import Sequence
from itertools import chain

from torch import fx
from torch.fx import Node

_KEY = "proxconnect_origins"
_SHIFTED = ".shifted"


def note_names(graph: fx.Graph, traced: fx.Graph) -> None:
    """Have every node of a graph that is about to be rewritten stand for its twin in `traced`, a copy of it."""
    for node, twin in zip(graph.nodes, traced.nodes, strict=True):
        node.meta[_KEY] = (twin.name,)


def stand_for(call: Node, nodes: Sequence[Node]) -> None:
    """Have `call` stand for nodes that follow each other."""
    call.meta[_KEY] = tuple(chain.from_iterable(map(origins, nodes)))


def note_shifted(shift: Node, head: Node) -> None:
    """Have `shift` stand for the shifted input of the layer that `head` calls."""
    shift.meta[_KEY] = (shifted(head.name),)


def shifted(name: str) -> str:
    """The name of the shifted input of a traced node that calls a layer."""
    return name + _SHIFTED


def origins(node: Node) -> tuple[str, ...]:
    """The names of the traced nodes that a node stands for, in order; the value of the last one is its own.

    A node that was inserted to copy or to lay out its first argument stands for what that does.
    """
    if _KEY in node.meta:
        names: tuple[str, ...] = node.meta[_KEY]
        return names
    value = node.args[0]
    assert isinstance(value, Node)
    return origins(value)
