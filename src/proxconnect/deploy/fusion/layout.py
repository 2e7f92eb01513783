"""Images with their channels last, from the input of a graph to its output."""

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx import Node

from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.layers import BinaryMultiheadAttention
from proxconnect.layers.react import Shift


def keep_channels_last(graph: fx.Graph, modules: dict[str, nn.Module]) -> None:
    """Have the graph read its images with their channels last, in place, and answer in the format of its input.

    Operations that read an input in any layout get it as it is. `view` may have to copy then, so that it becomes
    `reshape`. Modules that know no memory formats get what they would have got.
    """
    images = [node for node in graph.nodes if node.op == "placeholder"]
    if not images:
        return
    first, last = images[0], images[-1]
    given = [
        (node, [user for user in node.users if not getattr(user.target, "reads_any_layout", False)]) for node in images
    ]
    with graph.inserting_after(last):
        for node, users in given:
            converted = graph.call_function(with_channels_last, (node,))
            for user in users:
                user.replace_input_with(node, converted)
    for node in list(graph.nodes):
        if node.op == "call_method" and node.target == "view" and torch.dtype not in map(type, node.args):
            node.target = "reshape"
        if node.op == "output":
            _convert(graph, node, lambda value: (in_format_of, (value, first)))
        elif node.op == "call_module" and not _knows_formats(modules[node.target]):
            _convert(graph, node, lambda value: (with_planes, (value,)))


def with_channels_last(value: Any) -> Any:
    """A tensor of images in that memory format; anything else as it is."""
    is_image = isinstance(value, Tensor) and value.dim() == 4
    return value.contiguous(memory_format=torch.channels_last) if is_image else value


def with_planes(value: Any) -> Any:
    """A tensor of images in C order; anything else as it is."""
    return value.contiguous() if isinstance(value, Tensor) and value.dim() == 4 else value


def in_format_of(value: Any, given: Any) -> Any:
    """A tensor of images in C order where the input is."""
    return with_planes(value) if isinstance(given, Tensor) and given.is_contiguous() else value


def _convert(graph: fx.Graph, node: Node, call: Any) -> None:
    """Have a node read every input through a function."""
    with graph.inserting_before(node):
        for value in list(node.all_input_nodes):
            node.replace_input_with(value, graph.call_function(*call(value)))


def _knows_formats(module: nn.Module) -> bool:
    return isinstance(module, CompactLayer | BinaryMultiheadAttention | Shift) or type(module).__module__.startswith(
        "torch.nn."
    )
