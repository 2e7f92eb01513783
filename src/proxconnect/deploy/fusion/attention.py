"""Attention of floats as one operation, in graphs and in the layers' own forward."""

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.fx import Node
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from proxconnect import kernels

_PARAMETERS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
_PLAIN = {"attn_mask": None, "dropout_p": 0.0, "is_causal": False, "enable_gqa": False}


class FusedAttention:
    """softmax(scale · q kᵀ) v, (batch, heads, queries, width), or with queries before heads."""

    def __init__(self, scale: float | None, *, has_queries_first: bool) -> None:
        self.scale, self.has_queries_first = scale, has_queries_first

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """What torch's function answers, up to rounding."""
        answer = kernels.attention(query, key, value, self.scale)
        return answer if self.has_queries_first else answer.transpose(1, 2)


class FusedAttentionOfRows:
    """The same of the rows of one layer, which hold all queries, then all keys, then all values."""

    def __init__(self, attention: FusedAttention, heads: int, width: int) -> None:
        self.attention, self.heads, self.width = attention, heads, width

    def __call__(self, qkv: Tensor, batch: int, tokens: int) -> Tensor:
        """What is answered to rows that are viewed as (batch, tokens, 3, heads, width)."""
        if qkv.shape == (batch, tokens, 3 * self.heads * self.width):
            answer = kernels.attention_of_rows(qkv, self.heads, self.attention.scale)
            return answer if self.attention.has_queries_first else answer.transpose(1, 2)
        views = qkv.reshape(batch, tokens, 3, self.heads, self.width).permute(2, 0, 3, 1, 4)
        return self.attention(*views.unbind(0))


@dataclass(frozen=True)
class Fused:
    """What runs in the place of nodes that follow each other, and its arguments."""

    operation: FusedAttention | FusedAttentionOfRows
    nodes: list[Node]
    arguments: tuple[Any, ...]


def fused_attention(node: Node) -> Fused | None:
    """What runs in the place of a node and of what turns its inputs and output; None where it is no attention."""
    if node.op != "call_function" or node.target is not functional.scaled_dot_product_attention:
        return None
    arguments = _plain_arguments(node.args, node.kwargs)
    if arguments is None or not all(isinstance(arguments[name], Node) for name in _PARAMETERS[:3]):
        return None
    turning = [user for user in node.users if _puts_queries_first(user)]
    has_queries_first = len(turning) == 1 == len(node.users)
    operation = FusedAttention(arguments.get("scale"), has_queries_first=has_queries_first)
    nodes = [node, *turning] if has_queries_first else [node]
    inputs = tuple(arguments[name] for name in _PARAMETERS[:3])
    chain = _chain_from_rows(inputs)
    if chain is None:
        return Fused(operation, nodes, inputs)
    sizes: Any = chain[0].args
    rows, batch, tokens, _, heads, width = sizes
    return Fused(FusedAttentionOfRows(operation, heads, width), [*chain, *nodes], (rows, batch, tokens))


def _chain_from_rows(inputs: tuple[Node, ...]) -> list[Node] | None:
    """The nodes that make views of queries, keys and values of rows of all, which nobody else reads."""
    parts = [node for i, node in enumerate(inputs) if _calls(node, operator.getitem, None, i)]
    unbind = parts[0].args[0] if len(parts) == 3 else None
    if not _calls(unbind, "unbind", None, 0) or set(unbind.users) != set(parts) or any(len(p.users) > 1 for p in parts):
        return None
    permute = unbind.args[0]
    if not _calls(permute, "permute", None, 2, 0, 3, 1, 4) or len(permute.users) > 1:
        return None
    reshape = permute.args[0]
    if not _calls(reshape, "reshape", None, None, None, 3, None, None) or len(reshape.users) > 1:
        return None
    are_numbers = all(type(size) is int and size > 0 for size in reshape.args[4:])
    return [reshape, permute, unbind, *parts] if are_numbers else None


def _calls(node: Any, target: Any, *args: Any) -> TypeGuard[Node]:
    """Whether it is a call of a function or a method with these arguments, None for any."""
    if not isinstance(node, Node) or node.target != target or node.kwargs or len(node.args) != len(args):
        return False
    return all(wanted is None or wanted == given for wanted, given in zip(args, node.args, strict=True))


class FastAttention(TorchFunctionMode):
    """While this lasts, torch's function answers by the kernel in this thread, so that layers do as the graph."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called for every function of tensors."""
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            arguments = _plain_arguments(args, kwargs)
            if arguments is not None and not _need_gradients(arguments[name] for name in _PARAMETERS[:3]):
                query, key, value = (arguments[name] for name in _PARAMETERS[:3])
                return kernels.attention(query, key, value, arguments.get("scale")).transpose(1, 2)
        return func(*args, **kwargs)


def _plain_arguments(args: Iterable[Any], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
    """The arguments by name; None where there is a mask, causal or not, a dropout, or a scale that is no number."""
    arguments = dict(zip(_PARAMETERS, args, strict=False)) | dict(kwargs)
    if any(_is_other(arguments.get(name, plain), plain) for name, plain in _PLAIN.items()):
        return None
    scale = arguments.get("scale")
    return arguments if scale is None or isinstance(scale, int | float) else None


def _is_other(value: Any, plain: Any) -> bool:
    return value is not plain if plain is None else not isinstance(value, int | float) or value != plain


def _need_gradients(tensors: Iterable[Tensor]) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _puts_queries_first(node: Node) -> bool:
    is_transpose = node.op == "call_method" and node.target == "transpose" and not node.kwargs
    return is_transpose and set(node.args[1:]) in ({1, 2}, {-3, -2}, {1, -2}, {-3, 2})
