"""The kinds of binary layers, for tests that run through all of them."""

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from proxconnect.layers import (
    BinaryConv1d,
    BinaryConv2d,
    BinaryConv3d,
    BinaryConvTranspose1d,
    BinaryConvTranspose2d,
    BinaryConvTranspose3d,
    BinaryLayer,
    BinaryLinear,
    BinaryTransposedLinear,
)


class Kind(NamedTuple):
    """How a float layer with a number of input channels is made, its binary form, and the sizes of its input."""

    make: Callable[[int], nn.Module]
    form: type[BinaryLayer]
    sizes: tuple[int, ...] = ()

    def binary(self, channels: int, dtype: torch.dtype = torch.float32, **options: Any) -> BinaryLayer:
        return self.form.convert(self.make(channels).to(dtype), **options)

    def input(self, channels: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(2, channels, *self.sizes).to(dtype)


KINDS = {
    "linear": Kind(lambda n: nn.Linear(n, 6), BinaryLinear),
    "transposed_linear": Kind(lambda n: Conv1D(6, n), BinaryTransposedLinear),
    "conv1d": Kind(lambda n: nn.Conv1d(n, 6, 3, padding=1, groups=2), BinaryConv1d, (5,)),
    "conv2d": Kind(lambda n: nn.Conv2d(n, 6, (3, 1), stride=(1, 2), groups=2), BinaryConv2d, (4, 3)),
    "conv3d": Kind(lambda n: nn.Conv3d(n, 4, (2, 1, 3), padding="same", groups=2), BinaryConv3d, (2, 2, 3)),
    "conv_transpose1d": Kind(
        lambda n: nn.ConvTranspose1d(n, 6, 3, stride=2, output_padding=1, groups=2), BinaryConvTranspose1d, (4,)
    ),
    "conv_transpose2d": Kind(
        lambda n: nn.ConvTranspose2d(n, 6, (3, 1), padding=(1, 0), groups=2), BinaryConvTranspose2d, (4, 3)
    ),
    "conv_transpose3d": Kind(
        lambda n: nn.ConvTranspose3d(n, 4, (2, 1, 3), stride=(1, 2, 1), groups=2), BinaryConvTranspose3d, (3, 2, 3)
    ),
}


def channel_indices(layer: Any) -> list[tuple[Any, ...]]:
    """The index of each output channel's weights in the weight of a layer."""
    if isinstance(layer, Conv1D | BinaryTransposedLinear):
        return [(slice(None), o) for o in range(layer.nf)]
    if not getattr(layer, "transposed", False):
        outputs = layer.out_channels if hasattr(layer, "out_channels") else layer.out_features
        return [(o,) for o in range(outputs)]
    rows, columns = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    return [(slice(g * rows, (g + 1) * rows), j) for g, j in product(range(layer.groups), range(columns))]


def over_channels(values: Tensor, output: Tensor, kind: Kind) -> Tensor:
    """One value a channel, broadcastable over the output of a layer for a batch of inputs."""
    return values.reshape(-1, *[1] * len(kind.sizes)).expand(output.shape)
