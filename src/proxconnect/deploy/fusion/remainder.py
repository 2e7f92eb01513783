"""Fused operations of convolutions of floats, of 8-bit layers and of batch norms of images."""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.fx import Node

from proxconnect.deploy.fusion.binary_products import ORDER, STEPS, BinaryProduct
from proxconnect.deploy.fusion.images import with_channels_last
from proxconnect.deploy.fusion.operation import Match, Operation, Rewriting, has_kernels
from proxconnect.deploy.fusion.steps import EpilogueStep, for_kernels, step_of
from proxconnect.deploy.packed.layers.int8 import Int8Conv2d, Int8Linear
from proxconnect.deploy.packed.layers.one_bit import KernelConv
from proxconnect.kernels.finish import Finish, FinishMaxPool2d
from proxconnect.kernels.fused_image_conv import (
    FusedFloatConv2d,
    FusedInt8Conv2d,
    FusedWeightOnlyConv2d,
    can_convolve_floats,
)
from proxconnect.kernels.fused_linear import FusedInt8Linear
from proxconnect.kernels.geometry import can_take_means, can_take_the_largest
from proxconnect.kernels.steps import Add, Step

NAME = "layers of 8 bits"
"""The name under which reports count 8-bit linear layers and convolutions."""


class Int8Rows(Operation):
    """The fused operation of an 8-bit linear layer and the epilogue steps after it.

    The argument `then` holds the same steps as `steps`, in the form that the kernel takes.
    """

    name = NAME
    sums_integers = True

    def __init__(self, layer: Int8Linear, steps: Sequence[EpilogueStep], then: tuple[Step, ...]) -> None:
        assert layer.prepacked is not None
        weight = layer.prepacked, layer.in_features, layer.out_features
        kernel = FusedInt8Linear(*weight, layer.kernel_scale(), layer.kernel_bias(), then)
        super().__init__(kernel, steps, are_images=False)
        self.layer = layer

    @classmethod
    def match(cls, work: Rewriting, node: Node) -> Match | None:
        """Return the match of an 8-bit linear layer with the steps after it; None for other nodes."""
        layer = work.module_of(node)
        if not isinstance(layer, Int8Linear) or not has_kernels(layer):
            return None
        steps, then = for_kernels(work.chain(node, layer.out_features, are_images=False), layer.out_features)
        return Match(cls(layer, steps, then), [node, *(step.node for step in steps)], node.args, [layer])


class ImageNorm(Operation):
    """The fused operation of `steps` on float images, the first of them a batch norm, and an optional max pool."""

    name = "norms of floats"

    def __init__(
        self, channels: int, steps: Sequence[EpilogueStep], then: tuple[Step, ...], pool: nn.MaxPool2d | None, *,
        in_place: bool,
    ) -> None:  # fmt: skip
        finish = Finish(then, channels, in_place=in_place) if pool is None else FinishMaxPool2d(then, channels, pool)
        super().__init__(finish, steps, are_images=True)
        self.pool = pool

    @classmethod
    def match(cls, work: Rewriting, node: Node) -> Match | None:
        """Return the match of a batch norm of images, with steps and max pool after it; None if no kernel fits."""
        norm = work.module_of(node) if work.has_images else None
        value = node.args[0] if node.args else None
        if not isinstance(norm, nn.BatchNorm2d) or not isinstance(value, Node):
            return None
        first = step_of(node, value, work.modules)
        chain = [] if first is None else [first, *work.chain(node, norm.num_features, are_images=True)]
        steps, then = for_kernels(chain, norm.num_features)
        if not steps:
            return None
        nodes = [step.node for step in steps]
        pool = pool_behind(work, nodes[-1], then)
        is_fresh = isinstance(work.module_of(value), nn.Conv2d) and len(value.users) == 1
        operation = cls(norm.num_features, steps, then, pool, in_place=is_fresh)
        pools = [] if pool is None else [pool]
        return Match(operation, [*nodes, *(nodes[-1].users if pools else ())], (value,), pools)

    def kernel_input(self, input: Tensor) -> Tensor | None:
        """Return the input if it is float32, (N, C, H, W) and channels_last, or None."""
        is_image = input.dtype is torch.float32 and input.dim() == 4
        return input if is_image and input.is_contiguous(memory_format=torch.channels_last) else None


def pool_behind(work: Rewriting, last: Node, then: Sequence[Step]) -> nn.MaxPool2d | None:
    """Return the max pool that is the only user of `last`, if kernels can run it after the steps `then`; else None."""
    readers = list(last.users)
    pool: Any = work.module_of(readers[0]) if len(readers) == 1 else None
    if type(pool) is not nn.MaxPool2d or any(isinstance(step, Add) for step in then):
        return None
    return pool if can_take_the_largest(pool) else None


_FLATTENING: tuple[Any, ...] = ("flatten", "reshape", torch.flatten, torch.reshape)

Prepared = tuple[tuple[int, ...], Callable[..., Any]]
"""The `stride` of an `ImageConv`, and a function of (steps, average pool, max pool) that makes its kernel."""


class ImageConv(Operation):
    """The fused operation of an optional average pool, a convolution, its steps and an optional max pool; abstract.

    For unpadded convolutions of 1 × 1, `stride` subsamples the image before the kernel runs. Otherwise it is (1, 1).
    """

    reads_any_layout = True

    def __init__(
        self, kernel: Callable[..., Tensor | None], layer: Any, stride: tuple[int, ...], mean: nn.AvgPool2d | None,
        steps: Sequence[EpilogueStep], pool: nn.MaxPool2d | None,
    ) -> None:  # fmt: skip
        super().__init__(kernel, steps, are_images=True)
        self.layer, self.stride, self.mean, self.pool = layer, stride, mean, pool

    @classmethod
    def prepared(cls, work: Rewriting, node: Node, layer: Any) -> Prepared | None:
        """Return the stride and the maker of a kernel for the layer that a node calls; None if none fits."""
        raise NotImplementedError

    @classmethod
    def match(cls, work: Rewriting, node: Node) -> Match | None:
        """Return the match of a convolution with the pools and steps around it; None if no kernel supports the node."""
        layer: Any = work.module_of(node)
        if (prepared := cls.prepared(work, node, layer)) is None:
            return None
        stride, kernel = prepared
        chain = work.chain(node, layer.out_channels, are_images=True)
        steps, then = for_kernels(chain, layer.out_channels)
        nodes = [node, *(step.node for step in steps)]
        mean, pool = _mean_before(work, node, stride), pool_behind(work, nodes[-1], then)
        nodes = [*([] if mean is None else node.all_input_nodes), *nodes, *([] if pool is None else nodes[-1].users)]
        operation = cls(kernel(then, mean, pool), layer, stride, mean, steps, pool)
        pools = [module for module in (mean, pool) if module is not None]
        return Match(operation, nodes, nodes[0].args[:1], [layer, *pools])

    def kernel_input(self, input: Tensor) -> Tensor | None:
        """Return the subsampled image, or None unless it is float32 and (N, C, H, W)."""
        if input.dtype is not torch.float32 or input.dim() != 4:
            return None
        return input if self.stride == (1, 1) else input[..., :: self.stride[0], :: self.stride[1]]

    def sums(self, input: Tensor) -> Tensor:
        """Compute the output of the average pool, if any, and the convolution with these modules, before the steps."""
        sums: Tensor = self.layer(self.averaged(with_channels_last(input)))
        return sums

    def averaged(self, input: Tensor) -> Tensor:
        """Return the input after the average pool, if any."""
        return input if self.mean is None else self.mean(input)


class Int8Conv(ImageConv):
    """The fused operation of an 8-bit convolution, with the pools and steps around it."""

    name = NAME

    @property
    def sums_integers(self) -> bool:  # type: ignore[override]  # it is read-only here
        """True if there is no average pool, so that values before the steps are integer sums, scaled, plus biases."""
        return self.mean is None

    @classmethod
    def prepared(cls, work: Rewriting, node: Node, layer: Any) -> Prepared | None:
        """Return the stride and the maker of an 8-bit kernel; None if none can run the layer."""
        if not isinstance(layer, Int8Conv2d) or not has_even_zeros(layer) or not _may_be_turned(work, node):
            return None
        if not has_kernels(layer):
            return None
        assert layer.prepacked is not None
        weight = layer.prepacked, *layer.kernel_geometry(), layer.kernel_scale(), layer.kernel_bias()
        return layer.stride_of_seen(), partial(FusedInt8Conv2d, *weight)


class SignConv(ImageConv):
    """The fused operation of a convolution of floats with a binary weight, with the pools and steps around it."""

    name = BinaryProduct.name
    is_binary = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._inputs = self.layer.inputs

    @property
    def sums_integers(self) -> bool:  # type: ignore[override]  # it is read-only here
        """True if images are rounded, without an average pool before."""
        return self._inputs == "int8" and self.mean is None

    @classmethod
    def prepared(cls, work: Rewriting, node: Node, layer: Any) -> Prepared | None:
        """Return the stride and the maker of a kernel; None if torch is faster or none fits."""
        if not multiplies_images(layer) or not layer.is_worth_tables() or not has_kernels(layer):
            return None
        assert layer.prepacked is not None
        weight = layer.prepacked, *layer.geometry(), layer.kernel_scale(), layer.kernel_bias()
        return (1, 1), partial(FusedWeightOnlyConv2d, *weight, rounds=layer.inputs == "int8")

    def kernel_input(self, input: Tensor) -> Tensor | None:
        """Return the input, or None unless it is float32 and (N, C, H, W), and `inputs` of the layer is as before."""
        return super().kernel_input(input) if self.layer.inputs == self._inputs else None

    def counts(self) -> dict[str, int]:
        """Return, by name, 1 for the layer and the number of its steps."""
        return {self.name: 1, STEPS: len(self.steps)}

    def rounding(self, input: Tensor, sums: Tensor) -> Tensor:
        """Return a bound on the absolute rounding error of each sum: a share of |sum| for integers, else of Σ |x·w|."""
        return super().rounding(input, sums) if self._inputs == "int8" else self.order_rounding(input)

    def order_rounding(self, input: Tensor) -> Tensor:
        """Return a bound on the absolute error of each sum from another order of additions: a share of Σ |x·w|."""
        sizes: Tensor = self.layer.multiply(self.averaged(input).abs(), self.layer.weight.abs(), None)
        return sizes * ORDER


class FloatConv(ImageConv):
    """The fused operation of a float convolution, about as precise as torch, with pools and steps."""

    name = "float convolutions"
    is_fast = True

    @classmethod
    def prepared(cls, work: Rewriting, node: Node, layer: Any) -> Prepared | None:
        """Return the stride and the maker of a float kernel; None if none may run the layer."""
        if not work.has_fast_floats or not _may_be_turned(work, node):
            return None
        if type(layer) is not nn.Conv2d or not has_even_zeros(layer):
            return None
        weight, bias = layer._parameters.get("weight"), layer._parameters.get("bias", layer.weight)
        tensors = [tensor for tensor in (weight, bias) if tensor is not None]
        if weight is None or any(t.dtype is not torch.float32 or not t.is_cpu for t in tensors):
            return None
        if not can_convolve_floats(weight, layer.groups):
            return None
        padding = tuple(layer._reversed_padding_repeated_twice[::-2])
        is_one_pixel = layer.kernel_size == (1, 1) and not any(padding)
        before, stride = (layer.stride, (1, 1)) if is_one_pixel else ((1, 1), layer.stride)
        bias = None if layer.bias is None else layer.bias.detach()
        geometry = stride, padding, layer.dilation
        return before, partial(FusedFloatConv2d, weight.detach(), *geometry, bias, groups=layer.groups)

    def rounding(self, input: Tensor, sums: Tensor) -> Tensor:
        """Return a bound on the absolute rounding error of each sum: `ORDER` · (Σ |x·w| + |bias|)."""
        layer = copy.deepcopy(self.layer)
        for parameter in layer.parameters():
            parameter.abs_()
        sizes: Tensor = layer(self.averaged(input).abs())
        return sizes * ORDER


def _mean_before(work: Rewriting, conv: Node, stride: tuple[int, ...]) -> nn.AvgPool2d | None:
    """Return the average pool whose only user is `conv`, if the kernel can run it; None otherwise."""
    node: Any = conv.args[0]
    mean = work.module_of(node)
    if type(mean) is not nn.AvgPool2d or not can_take_means(mean) or stride != (1, 1):
        return None
    return mean if len(node.users) == 1 else None


def _may_be_turned(work: Rewriting, conv: Node) -> bool:
    """Return True if nothing after `conv` depends on the memory format of its output."""
    return work.has_images or all(user.target in _FLATTENING for user in conv.users)


def multiplies_images(layer: Any) -> TypeGuard[KernelConv]:
    """Return True for a packed 2-d convolution of floats that pads with zeros as `has_even_zeros` says."""
    is_of_images = isinstance(layer, KernelConv) and len(layer.kernel_size) == 2
    return is_of_images and not layer.has_binary_input and has_even_zeros(layer)


def has_even_zeros(layer: nn.Conv2d | KernelConv) -> bool:
    """Return True if a convolution pads with zeros, as many before the image as after it."""
    pad = layer._reversed_padding_repeated_twice
    return layer.padding_mode == "zeros" and pad[::2] == pad[1::2]
