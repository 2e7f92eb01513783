"""Float convolutions and what stands around them in one pass, by kernels that round otherwise than torch does."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from proxconnect.deploy.fusion.image_conv import FusedImageConv
from proxconnect.deploy.fusion.links import Link
from proxconnect.deploy.fusion.products import ORDER
from proxconnect.kernels.epilogue import Step
from proxconnect.kernels.fixed_point import can_be_fixed
from proxconnect.kernels.fused_image_conv import FusedFloatConv2d
from proxconnect.kernels.library import has_float_conv


def can_convolve(layer: nn.Module | None) -> bool:
    """Whether kernels convolve with the floats of this layer."""
    if type(layer) is not nn.Conv2d or layer.groups != 1 or layer.padding_mode != "zeros" or not has_float_conv():
        return False
    numbers = [layer._parameters.get("weight"), layer._parameters.get("bias", layer.weight)]
    if any(n is not None and (n.dtype is not torch.float32 or not n.is_cpu) for n in numbers) or numbers[0] is None:
        return False
    pad = layer._reversed_padding_repeated_twice
    return pad[::2] == pad[1::2] and can_be_fixed(layer.weight)


def stride_of_seen(layer: nn.Conv2d) -> tuple[int, int]:
    """What of a stride leaves out pixels before an image is rounded, (1, 1) unless a patch is one pixel."""
    height, width = layer.stride if layer.kernel_size == (1, 1) and not any(_padding(layer)) else (1, 1)
    return height, width


class FusedFloatConv(FusedImageConv):
    """A float convolution, the mean before it, its links and a max pool."""

    def __init__(
        self, layer: nn.Conv2d, mean: nn.AvgPool2d | None, links: Sequence[Link], steps: tuple[Step, ...],
        pool: nn.MaxPool2d | None,
    ) -> None:  # fmt: skip
        seen = stride_of_seen(layer)
        stride = (1, 1) if seen != (1, 1) else layer.stride
        bias = None if layer.bias is None else layer.bias.detach()
        weight = layer.weight.detach()
        kernel = FusedFloatConv2d(weight, stride, _padding(layer), layer.dilation, bias, steps, mean, pool)
        super().__init__(layer, kernel, seen, mean, links, pool)

    def rounding(self, input: Tensor) -> Tensor:
        """By how much the sums of an input may change with their order, of both signs."""
        layer = copy.deepcopy(self.layer)
        for parameter in layer.parameters():
            parameter.abs_()
        sizes: Tensor = layer((input if self.mean is None else self.mean(input)).abs())
        return sizes * ORDER


def _padding(layer: nn.Conv2d) -> tuple[int, int]:
    pad = layer._reversed_padding_repeated_twice
    return pad[2], pad[0]
