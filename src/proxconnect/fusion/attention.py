"""Attention of floats as one operation, in graphs and in the layers' own forward."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from proxconnect import kernels
from proxconnect.packed import PackedLayer

Attention = Literal["torch", "fast"]

_PARAMETERS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
_PLAIN = {"attn_mask": None, "dropout_p": 0.0, "is_causal": False, "enable_gqa": False}


def is_fast(model: nn.Module, attention: Attention | None) -> bool:
    """Whether attention in a packed model is to be that of the kernels; ValueError unless it is one of `Attention`.

    None is for where no sign turns by it: in models without binary inputs.
    """
    if attention not in (None, *get_args(Attention)):
        raise ValueError(f"attention must be 'torch' or 'fast'; got {attention!r}")
    if not kernels.has_attention() or attention == "torch":
        return False
    layers = (m for m in model.modules() if isinstance(m, PackedLayer))
    return attention == "fast" or not any(layer.has_binary_input for layer in layers)


class FusedAttention:
    """softmax(scale · q kᵀ) v, (batch, heads, queries, width), or with queries before heads."""

    def __init__(self, scale: float | None, *, has_queries_first: bool) -> None:
        self.scale, self.has_queries_first = scale, has_queries_first

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """What torch's function answers, up to rounding."""
        answer = kernels.attention(query, key, value, self.scale)
        return answer if self.has_queries_first else answer.transpose(1, 2)


def fused_attention(node: Node) -> tuple[FusedAttention, list[Node]] | None:
    """What runs in the place of a node and of what turns its output, and these nodes; None where it is no attention."""
    if node.op != "call_function" or node.target is not functional.scaled_dot_product_attention:
        return None
    arguments = _plain_arguments(node.args, node.kwargs)
    if arguments is None or not all(isinstance(arguments[name], Node) for name in _PARAMETERS[:3]):
        return None
    scale = arguments.get("scale")
    turning = [user for user in node.users if _puts_queries_first(user)]
    if len(turning) == 1 == len(node.users):
        return FusedAttention(scale, has_queries_first=True), [node, *turning]
    return FusedAttention(scale, has_queries_first=False), [node]


def inputs_of(node: Node) -> tuple[Any, ...]:
    """The query, key and value of a node that `fused_attention` takes."""
    arguments = dict(zip(_PARAMETERS, node.args, strict=False)) | dict(node.kwargs)
    return tuple(arguments[name] for name in _PARAMETERS[:3])


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
