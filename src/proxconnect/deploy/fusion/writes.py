"""Insert copies into a torch.fx graph, so that no in-place operation changes a tensor that another operation reads."""

import operator
from typing import Any

from torch import fx, nn
from torch.fx import Node

from proxconnect.deploy.fusion.trace import UntraceableError

_AUGMENTED = (
    operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ifloordiv, operator.imod, operator.ipow,
)  # fmt: skip
_VIEWS = (
    "view", "view_as", "reshape", "flatten", "unflatten", "permute", "transpose", "movedim", "squeeze", "unsqueeze",
    "expand", "expand_as", "chunk", "split", "unbind", "narrow", "select", "getitem", "contiguous", "to", "float",
    "detach", "swapaxes", "swapdims", "moveaxis", "unfold", "ravel", "broadcast_to", "type", "type_as", "t", "diagonal",
    "tensor_split", "dropout", "getattr",
)  # fmt: skip
"""The functions, methods and attributes (as `x.mT`) whose output may share memory with their input."""

_VIEW_MODULES = (nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
"""The modules whose output may share memory with their input."""


def separate_writes(graph: fx.Graph, modules: dict[str, nn.Module]) -> None:
    """Insert copies into a graph, so that no in-place operation changes a tensor that another operation reads.

    UntraceableError if a written tensor is read afterwards, is an input, a parameter or a buffer, or is given as out=.
    """
    order = {node: place for place, node in enumerate(graph.nodes)}
    for node in list(graph.nodes):
        if "out" in node.kwargs:
            raise UntraceableError(f"{node} writes into what it is given as out=")
        if not writes(node, modules):
            continue
        written = node.args[0]
        owners = _owners(written, modules)
        if any(o.target == "size" or (o.target is getattr and o.args[1] == "shape") for o in owners):  # numbers
            continue
        if owners[-1].op in ("placeholder", "get_attr"):
            raise UntraceableError(f"{node} writes into {owners[-1]}, which is not its own")
        readers = [user for owner in owners for user in owner.users if user is not node and user not in owners]
        if any(order.get(reader, 0) > order[node] for reader in readers):
            raise UntraceableError(f"{written} is written into by {node} and read again")
        if readers:
            with graph.inserting_before(node):
                copy = graph.call_method("clone", (written,))
            node.replace_input_with(written, copy)


def writes(node: Node, modules: dict[str, nn.Module]) -> bool:
    """Return True if an operation, by its name or `inplace`, writes into its first argument; `modules` are by name."""
    if not node.args or not isinstance(node.args[0], Node):
        return False
    if node.op == "call_module":
        return bool(getattr(modules[str(node.target)], "inplace", False))
    if node.op == "call_method":
        return str(node.target).endswith("_") and not str(node.target).endswith("__")
    return node.target in _AUGMENTED or bool(node.kwargs.get("inplace", False)) or _name(node).endswith("_")


def _owners(node: Any, modules: dict[str, nn.Module]) -> list[Node]:
    """Return the node, and the nodes whose memory its value may share."""
    module = modules[str(node.target)] if node.op == "call_module" else None
    is_view = isinstance(module, _VIEW_MODULES) or (module is None and _name(node) in _VIEWS)
    has_owner = is_view and node.args and isinstance(node.args[0], Node)
    return [node, *_owners(node.args[0], modules)] if has_owner else [node]


def _name(node: Node) -> str:
    return node.target if isinstance(node.target, str) else str(getattr(node.target, "__name__", ""))
