"""Keep images in the memory format channels_last inside a graph."""

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx import Node

from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.layers import BinaryMultiheadAttention
from proxconnect.layers.react import Shift


def keep_channels_last(graph: fx.Graph, modules: dict[str, nn.Module]) -> None:
    """Edit a graph in place, so that its images are channels_last and its outputs have the first input's format.

    Modules, given by name, that are neither torch's nor proxconnect's get contiguous images.
    """
    images = [node for node in graph.nodes if node.op == "placeholder"]
    if not images:
        return
    with graph.inserting_after(images[-1]):
        for node in images:
            users = [user for user in node.users if not getattr(user.target, "reads_any_layout", False)]
            converted = graph.call_function(with_channels_last, (node,))
            for user in users:
                user.replace_input_with(node, converted)
    for node in list(graph.nodes):
        if node.op == "call_method" and node.target == "view" and torch.dtype not in map(type, node.args):
            node.target = "reshape"
        if node.op == "output":
            _convert(graph, node, lambda value: (in_format_of, (value, images[0])))
        elif node.op == "call_module":
            module = modules[node.target]
            is_ours = isinstance(module, CompactLayer | BinaryMultiheadAttention | Shift)
            if not is_ours and not type(module).__module__.startswith("torch.nn."):
                _convert(graph, node, lambda value: (with_planes, (value,)))


def with_channels_last(value: Any) -> Any:
    """Return a 4-dimensional tensor in channels_last; anything else unchanged."""
    is_image = isinstance(value, Tensor) and value.dim() == 4
    return value.contiguous(memory_format=torch.channels_last) if is_image else value


def with_planes(value: Any) -> Any:
    """Return a 4-dimensional tensor in contiguous format; anything else unchanged."""
    return value.contiguous() if isinstance(value, Tensor) and value.dim() == 4 else value


def in_format_of(value: Any, given: Any) -> Any:
    """Return `value`; as a contiguous tensor if it is 4-dimensional and `given` is a contiguous tensor."""
    return with_planes(value) if isinstance(given, Tensor) and given.is_contiguous() else value


def _convert(graph: fx.Graph, node: Node, call: Any) -> None:
    """Insert a call before each input of a node; `call` returns its function and arguments for an input."""
    with graph.inserting_before(node):
        for value in list(node.all_input_nodes):
            node.replace_input_with(value, graph.call_function(*call(value)))
