"""Float attention in one kernel, as a fused operation and for layers that run without a graph."""

import operator
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor
from torch.fx import Node
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from proxconnect.deploy.fusion.operation import Match, Operation, Rewriting
from proxconnect.kernels.float_attention import attention, attention_of_rows
from proxconnect.kernels.library import has_float_kernels

_PARAMETERS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
_PLAIN = {"attn_mask": None, "dropout_p": 0.0, "is_causal": False, "enable_gqa": False}


class Attention(Operation):
    """The fused operation that computes softmax(scale · q kᵀ) v of float queries, keys and values in one kernel.

    If `rows` is None, call it with queries, keys and values, each (batch, heads, tokens, width). If `rows` is (heads,
    width), call it with one tensor (batch, tokens, 3 · heads · width), which holds all queries, then keys, then values,
    and with the sizes batch and tokens. A `scale` of None is 1/√width.

    It returns (batch, heads, queries, width). Unless `swap` is None, it transposes these two dimensions, those of heads
    and queries, and returns (batch, queries, heads, width). Torch computes inputs that the kernel does not support, and
    those without four dimensions.
    """

    name = "attentions"
    is_fast = True
    keeps_images_apart = False
    has_channels = False

    def __init__(self, scale: float | None, rows: tuple[int, int] | None, swap: tuple[int, int] | None) -> None:
        super().__init__(attention, (), are_images=False)
        self.scale, self.rows, self.swap = scale, rows, swap

    @classmethod
    def match(cls, work: Rewriting, node: Node) -> Match | None:
        """Return the match of an attention that the kernel may compute, with reshaping around it; None for others."""
        if not work.has_fast_floats or node.target is not functional.scaled_dot_product_attention:
            return None
        arguments = _plain_arguments(node.args, node.kwargs)
        if arguments is None or not has_float_kernels():
            return None
        inputs = tuple(arguments[name] for name in _PARAMETERS[:3])
        if not all(isinstance(input, Node) for input in inputs):
            return None
        swaps = ({1, 2}, {-3, -2}, {1, -2}, {-3, 2})
        user = next(iter(node.users)) if len(node.users) == 1 else None
        nodes, rows, swap = [node], None, None
        if _calls(user, "transpose", None, None, None) and set(user.args[1:]) in swaps:
            nodes, swap = [node, user], cast(tuple[int, int], user.args[1:])
        if chain := _chain_from_rows(inputs):
            sizes: Any = chain[0].args  # rows, batch, tokens, 3, heads, width
            nodes, inputs, rows = [*chain, *nodes], sizes[:3], sizes[4:]
        return Match(cls(arguments.get("scale"), rows, swap), nodes, inputs)

    def __call__(self, *inputs: Any) -> Tensor:
        """Return the attention of inputs as the class describes, by torch if the kernel does not support them."""
        answer: Tensor
        if self.rows is None:
            q, k, v = inputs
            if not q.dim() == k.dim() == v.dim() == 4:  # `swap` may mean other dimensions than 1 and 2
                answer = functional.scaled_dot_product_attention(q, k, v, scale=self.scale)
                return answer if self.swap is None else answer.transpose(*self.swap)
            answer = self.kernel(q, k, v, self.scale)
        else:
            (qkv, batch, tokens), (heads, width) = inputs, self.rows
            if qkv.shape == (batch, tokens, 3 * heads * width):
                answer = attention_of_rows(qkv, heads, self.scale)
            else:
                views = qkv.reshape(batch, tokens, 3, heads, width).permute(2, 0, 3, 1, 4)
                answer = self.kernel(*views.unbind(0), self.scale)
        return answer.transpose(1, 2) if self.swap is None else answer


def _chain_from_rows(inputs: tuple[Node, ...]) -> list[Node] | None:
    """Return the nodes that split rows into queries, keys and values, or None if one of them has another user."""
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
    """Return True if a node calls a function or a method with these arguments, where None stands for any."""
    if not isinstance(node, Node) or node.target != target or node.kwargs or len(node.args) != len(args):
        return False
    return all(wanted is None or wanted == given for wanted, given in zip(args, node.args, strict=True))


class FastAttention(TorchFunctionMode):
    """A context manager in which torch's `scaled_dot_product_attention` runs the kernel if it can, in this thread."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `attention` of 4-d tensors without mask, causality, dropout, GQA and gradient, and `func` otherwise."""
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            arguments = _plain_arguments(args, kwargs)
            if arguments is not None:
                query, key, value = (arguments[name] for name in _PARAMETERS[:3])
                has_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
                if not has_gradient and all(x.dim() == 4 for x in (query, key, value)):
                    return attention(query, key, value, arguments.get("scale")).transpose(1, 2)
        return func(*args, **kwargs)


def _plain_arguments(args: Iterable[Any], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the arguments by name; None for a mask, causal attention, dropout, GQA, or a scale that is no number."""
    arguments = dict(zip(_PARAMETERS, args, strict=False)) | dict(kwargs)
    for name, plain in _PLAIN.items():
        value = arguments.get(name, plain)
        if value is not plain and (plain is None or not isinstance(value, int | float) or value != plain):
            return None
    scale = arguments.get("scale")
    return arguments if scale is None or isinstance(scale, int | float) else None
