"""Layer norms in one kernel, as a fused operation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.nn import functional

from proxconnect.deploy.fusion.operation import Match, Operation, Rewriting
from proxconnect.kernels.layer_norm import LayerNorm as Kernel
from proxconnect.kernels.library import has_vectors

_PARAMETERS = ("input", "normalized_shape", "weight", "bias", "eps")
_IN_FLOATS = 2.0**-20
"""The rounding error of a norm, relative to the norm of the row's largest entry without the mean subtracted."""


class LayerNorm(Operation):
    """The fused operation of a layer norm over the last dimension, in one kernel.

    `layer` computes the same with torch, from `weight`, `bias` and `eps`.
    """

    name = "layer norms"
    is_fast = True
    keeps_images_apart = False

    def __init__(
        self, layer: Callable[[Tensor], Tensor], width: int, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> None:
        super().__init__(Kernel(width, weight, bias, eps), (), are_images=False)
        self.layer, self._weight, self._eps = layer, weight, eps

    @classmethod
    def match(cls, work: Rewriting, node: Node) -> Match | None:
        """Return the match of a layer norm over the last dimension, if kernels may compute floats; None for others."""
        if not work.has_fast_floats or not has_vectors():
            return None
        norm = _norm_of(work, node)
        if norm is None or not norm.can_be_fused():
            return None
        layer = work.module_of(node) or norm
        operation = cls(layer, norm.shape[0], norm.weight, norm.bias, norm.eps)
        return Match(operation, [node], (node.all_input_nodes[0],), norm.read)

    def seen(self, input: Tensor) -> Tensor | None:
        """Return the input if it is float32 and contiguous, or None."""
        return input if input.dtype is torch.float32 and input.is_contiguous() else None

    def rounding(self, input: Tensor, sums: Tensor) -> Tensor:
        """Return a bound on the absolute rounding error of each entry; it is large if all entries are near the mean."""
        factor = (input.var(-1, correction=0, keepdim=True) + self._eps).rsqrt()
        largest = input.abs().amax(-1, keepdim=True) * factor
        largest = largest if self._weight is None else largest * self._weight.abs()
        return (sums.abs() + largest) * _IN_FLOATS


@dataclass(frozen=True)
class _Norm:
    """A record of the arguments of a layer norm."""

    shape: Any
    weight: Tensor | None
    bias: Tensor | None
    eps: Any
    read: tuple[nn.Module, ...]
    """The modules that hold the weight and the bias."""

    def __call__(self, input: Tensor) -> Tensor:
        return functional.layer_norm(input, self.shape, self.weight, self.bias, self.eps)

    def can_be_fused(self) -> bool:
        """Return True if it is over the last dimension, with weight and bias, if any, in float32 on the CPU."""
        tensors = [tensor for tensor in (self.weight, self.bias) if tensor is not None]
        is_plain = all(tensor.dtype is torch.float32 and tensor.is_cpu for tensor in tensors)
        return is_plain and isinstance(self.eps, float) and len(self.shape) == 1 and isinstance(self.shape[0], int)


def _norm_of(work: Rewriting, node: Node) -> _Norm | None:
    """Return the layer norm that a node computes with parameters and buffers of the model; None for other nodes."""
    module = work.module_of(node)
    if type(module) is nn.LayerNorm:
        return _Norm(module.normalized_shape, module.weight, module.bias, module.eps, (module,))
    if node.target is not functional.layer_norm or not isinstance(node.args[0], Node):
        return None
    given = dict(zip(_PARAMETERS, node.args, strict=False)) | dict(node.kwargs)
    weight, bias = (_held(work, given.get(name)) for name in ("weight", "bias"))
    if weight is None or bias is None:
        return None
    return _Norm(given["normalized_shape"], weight[0], bias[0], given.get("eps", 1e-5), (*weight[1:], *bias[1:]))


def _held(work: Rewriting, value: Any) -> tuple[Any, ...] | None:
    """Return the parameter or buffer that a node gets and the module that holds it; (None,) for None, else None."""
    if value is None:
        return (None,)
    if not isinstance(value, Node) or value.op != "get_attr":
        return None
    owner_name, _, name = str(value.target).rpartition(".")
    owner = work.modules[owner_name]
    return next(((held[name], owner) for held in (owner._parameters, owner._buffers) if name in held), None)
