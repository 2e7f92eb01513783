"""A convolution of images and what stands around it in one pass, or layer by layer for other inputs."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from proxconnect.deploy.fusion.adding import finished
from proxconnect.deploy.fusion.layout import with_channels_last
from proxconnect.deploy.fusion.links import Link, run
from proxconnect.kernels.window import can_take_means


class FusedImageConv:
    """A convolution, the mean before it, its links and a max pool; called with the input and what links add.

    `stride` is that by which pixels are left out before the kernel sees them.
    """

    def __init__(
        self, layer: nn.Conv2d, kernel: Callable[..., Tensor | None], stride: tuple[int, int],
        mean: nn.AvgPool2d | None, links: Sequence[Link], pool: nn.MaxPool2d | None,
    ) -> None:  # fmt: skip
        self.layer, self.kernel, self.stride = layer, kernel, stride
        self.mean, self.links, self.pool = mean, tuple(links), pool

    def __call__(self, input: Tensor, *others: Tensor) -> Tensor:
        """(N, in, H, W) in any layout → (N, out, H', W'), in the memory format channels_last."""
        if input.dtype is not torch.float32 or input.dim() != 4:
            return self.by_layers(input, *others)
        seen = input if self.stride == (1, 1) else input[..., :: self.stride[0], :: self.stride[1]]
        output: Tensor | None = finished(self.kernel, seen, others, torch.channels_last)
        return self.by_layers(input, *others) if output is None else output

    def by_layers(self, input: Tensor, *others: Tensor) -> Tensor:
        """The same by the modules themselves."""
        value = with_channels_last(input)
        value = run(self.links, self.layer(value if self.mean is None else self.mean(value)), others)
        return value if self.pool is None else self.pool(value)


def can_average(module: nn.AvgPool2d, stride: tuple[int, int]) -> bool:
    """Whether a mean of windows runs in the same pass as the convolution behind it, before which `stride` is taken."""
    return type(module) is nn.AvgPool2d and can_take_means(module) and stride == (1, 1)
