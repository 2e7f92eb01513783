"""The fused operation of convolutions whose binary weight is multiplied as floats."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from proxconnect.deploy.fusion.operation import Rewriting
from proxconnect.deploy.fusion.remainder import Prepared, SignConv, multiplies_images
from proxconnect.kernels.fused_image_conv import FusedFloatConv2d, can_convolve_floats

WORTH_TABLES = 32
"""The channels of a pixel from which tables beat products of floats, with AVX2 and with AVX-512."""


class SignConvByFloats(SignConv):
    """A `SignConv` that multiplies by the unpacked weight: a depthwise one, or one too small for tables."""

    sums_integers = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._may_be_rounded = self._inputs == "int8" and self.layer.prepacked is not None

    @classmethod
    def prepared(cls, work: Rewriting, node: Node, layer: Any) -> Prepared | None:
        """Return the stride and the maker of a kernel; None if tables are faster or none fits."""
        if not multiplies_images(layer):
            return None
        is_narrow = layer.inputs == "exact" and layer.in_channels // layer.groups < WORTH_TABLES
        is_by_tables = layer.is_worth_tables() and not (is_narrow and layer.kernel_size == (1, 1))
        tensors = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
        if is_by_tables or any(t.dtype is not torch.float32 or not t.is_cpu for t in tensors):
            return None
        if not can_convolve_floats(tensors[0], layer.groups):
            return None
        geometry = layer.geometry()[1:4]
        return (1, 1), partial(FusedFloatConv2d, tensors[0], *geometry, layer.kernel_bias(), groups=layer.groups)

    def kernel_input(self, input: Tensor) -> Tensor | None:
        """Return the input, or None if `SignConv.kernel_input` does or if the layer rounds such an input."""
        is_rounded = self._may_be_rounded and self.layer.is_by_kernels(input, self.layer.bias)
        return None if is_rounded else super().kernel_input(input)

    def rounding(self, input: Tensor, sums: Tensor) -> Tensor:
        """Return a bound on the absolute rounding error of each sum: a share of Σ |x·w|."""
        return self.order_rounding(input)
