"""Layer norms in one kernel, as a fused operation."""

from collections.abc import Callable
from functools import partial
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
        found = _arguments_of(work, node) if work.has_fast_floats and has_vectors() else None
        if found is None:
            return None
        shape, weight, bias, eps, *read = found
        if any(t is not None and (t.dtype is not torch.float32 or not t.is_cpu) for t in (weight, bias)):
            return None
        if not isinstance(eps, float) or len(shape) != 1 or not isinstance(shape[0], int):
            return None
        of_torch = partial(functional.layer_norm, normalized_shape=shape, weight=weight, bias=bias, eps=eps)
        operation = cls(work.module_of(node) or of_torch, shape[0], weight, bias, eps)
        return Match(operation, [node], (node.all_input_nodes[0],), read)

    def kernel_input(self, input: Tensor) -> Tensor | None:
        """Return the input if it is float32 and contiguous, or None."""
        return input if input.dtype is torch.float32 and input.is_contiguous() else None

    def rounding(self, input: Tensor, sums: Tensor) -> Tensor:
        """Return a bound on the absolute rounding error of each entry; it is large if all entries are near the mean."""
        factor = (input.var(-1, correction=0, keepdim=True) + self._eps).rsqrt()
        largest = input.abs().amax(-1, keepdim=True) * factor
        largest = largest if self._weight is None else largest * self._weight.abs()
        return (sums.abs() + largest) * _IN_FLOATS


def _arguments_of(work: Rewriting, node: Node) -> tuple[Any, ...] | None:
    """Return shape, weight, bias and eps of the layer norm that a node computes, and the modules that hold its tensors.

    None for other nodes, and if the weight or the bias is neither None nor a parameter or buffer of the model.
    """
    module = work.module_of(node)
    if type(module) is nn.LayerNorm:
        return module.normalized_shape, module.weight, module.bias, module.eps, module
    if node.target is not functional.layer_norm or not isinstance(node.args[0], Node):
        return None
    given = dict(zip(_PARAMETERS, node.args, strict=False)) | dict(node.kwargs)
    weight, bias = (_held(work, given.get(name)) for name in ("weight", "bias"))
    if weight is None or bias is None:
        return None
    return given["normalized_shape"], weight[0], bias[0], given.get("eps", 1e-5), *weight[1:], *bias[1:]


def _held(work: Rewriting, value: Any) -> tuple[Any, ...] | None:
    """Return the parameter or buffer that a node gets and the module that holds it; (None,) for None, else None."""
    if value is None:
        return (None,)
    if not isinstance(value, Node) or value.op != "get_attr":
        return None
    owner_name, _, name = str(value.target).rpartition(".")
    owner = work.modules[owner_name]
    return next(((held[name], owner) for held in (owner._parameters, owner._buffers) if name in held), None)
