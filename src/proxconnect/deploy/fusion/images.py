"""Images in a graph: keep them in the memory format channels_last, and run large batches of them in parts."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx import Node
from torch.nn import functional

from proxconnect.deploy.fusion.operation import Operation
from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.layers import BinaryMultiheadAttention
from proxconnect.layers.prelu import PReLU
from proxconnect.layers.react import Shift


def keep_channels_last(graph: fx.Graph, modules: dict[str, nn.Module]) -> None:
    """Edit a graph in place, so that its images are channels_last, but its outputs contiguous if the first input is.

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
            is_ours = isinstance(module, CompactLayer | BinaryMultiheadAttention | PReLU | Shift)
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


_BYTES = 5 << 19
"""The bytes of the images of a part: about four images of 3 × 224 × 224 in float32."""

_MODULES = {
    nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.ReLU,
    nn.AdaptiveMaxPool2d, nn.ReLU6, nn.Hardtanh, nn.PReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Sigmoid,
    nn.Hardsigmoid, nn.Tanh, nn.Identity, nn.Dropout, PReLU, Shift,
}  # fmt: skip
"""Modules whose output for an image does not depend on the rest of the batch, apart from special options."""

_FUNCTIONS: set[Any] = {
    operator.add, operator.iadd, operator.sub, operator.mul, operator.imul, torch.add, torch.mul, torch.relu,
    functional.relu, functional.relu6, functional.hardtanh, functional.silu, functional.gelu,
    functional.adaptive_avg_pool2d, functional.avg_pool2d, functional.max_pool2d,
    with_channels_last, with_planes, in_format_of,
}  # fmt: skip
_METHODS = {"relu", "relu_", "clone", "contiguous", "add", "add_", "mul", "sigmoid"}


def are_apart(graph: fx.Graph, modules: dict[str, nn.Module]) -> bool:
    """Return True if a graph surely maps one batch of images to one tensor in which images do not affect each other."""
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    (output,) = (node for node in graph.nodes if node.op == "output")
    if len(inputs) != 1 or not isinstance(output.args[0], Node):
        return False
    ranks: dict[Node, int] = {inputs[0]: 4}
    for node in graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        values = node.all_input_nodes[: 1 if node.target is in_format_of else None]
        read = {ranks[value] for value in values}
        if len(read) != 1 or not _is_apart(node, modules, *read):  # of other ranks, rows of a batch may meet columns
            return False
        ranks[node] = _rank(node, modules, *read)
    return True


def in_parts(run: Callable[..., Any], images: Tensor) -> Any:
    """Return `run(images)`, computed on `part_of(images)` images at a time and concatenated along the batch."""
    part = part_of(images)
    if len(images) <= part:
        return run(images)
    return torch.cat([run(some) for some in images.split(part)])


def part_of(images: Tensor) -> int:
    """Return how many images (N, C, H, W) to compute at a time, at least 1; `len(images)` for other dimensions."""
    return max(_BYTES // max(images[:1].nbytes, 1), 1) if images.dim() == 4 else len(images)


def _is_apart(node: Node, modules: dict[str, nn.Module], rank: int) -> bool:
    """Return True if an operation on values of `rank` dimensions treats the images of a batch separately."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        if isinstance(module, nn.Flatten):
            return module.start_dim >= 1
        takes_statistics = isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_mean is None
        is_pair = getattr(module, "return_indices", False)
        return isinstance(module, CompactLayer) or (type(module) in _MODULES and not takes_statistics and not is_pair)
    if node.op == "get_attr":
        return False
    if node.target in (torch.flatten, "flatten"):
        return _argument(node, 1, "start_dim", 0) in (1, 2, 3)
    if node.target in (torch.mean, "mean"):
        dims = _argument(node, 1, "dim", None)
        return isinstance(dims, tuple | list) and all(dim % rank for dim in dims)
    if node.target is torch.cat:
        return bool(_argument(node, 1, "dim", 0) == 1)
    if isinstance(node.target, Operation):
        return node.target.keeps_images_apart
    return node.target in (_METHODS if node.op == "call_method" else _FUNCTIONS)


def _rank(node: Node, modules: dict[str, nn.Module], rank: int) -> int:
    """Return the number of dimensions of the output of an operation on values of `rank` dimensions."""
    module = modules[str(node.target)] if node.op == "call_module" else None
    if isinstance(module, nn.Flatten):
        return rank - (module.end_dim % rank - module.start_dim)
    if node.target in (torch.flatten, "flatten"):
        return int(rank - (_argument(node, 2, "end_dim", -1) % rank - _argument(node, 1, "start_dim", 0)))
    if isinstance(node.target, Operation):
        return rank - node.target.lost_dims
    if node.target in (torch.mean, "mean") and not _argument(node, 2, "keepdim", False):
        return rank - len(_argument(node, 1, "dim", None))
    return rank


def _argument(node: Node, place: int, name: str, default: Any) -> Any:
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)
