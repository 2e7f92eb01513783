"""8-bit layers and what stands around them in one pass, or layer by layer for other inputs."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from proxconnect.deploy.fusion.adding import finished
from proxconnect.deploy.fusion.image_conv import FusedImageConv
from proxconnect.deploy.fusion.links import Link, run
from proxconnect.deploy.packed.layers.int8_products import Int8Conv2d, Int8Linear
from proxconnect.kernels.epilogue import Step
from proxconnect.kernels.fused_int8_conv import FusedInt8Conv2d
from proxconnect.kernels.fused_int8_linear import FusedInt8Linear


def can_multiply(layer: Int8Linear | Int8Conv2d) -> bool:
    """Whether kernels multiply by the whole numbers of this layer, of a convolution with zeros around the image."""
    layer.prepack_if_changed()
    dtypes = {layer.scale.dtype, torch.float32 if layer.bias is None else layer.bias.dtype}
    if layer.prepacked is None or dtypes != {torch.float32}:
        return False
    if isinstance(layer, Int8Linear):
        return True
    pad = layer._reversed_padding_repeated_twice
    return layer.padding_mode == "zeros" and pad[::2] == pad[1::2]


class FusedInt8Conv(FusedImageConv):
    """An 8-bit convolution, the mean before it, its links and a max pool."""

    def __init__(
        self, layer: Int8Conv2d, mean: nn.AvgPool2d | None, links: Sequence[Link], steps: tuple[Step, ...],
        pool: nn.MaxPool2d | None,
    ) -> None:  # fmt: skip
        assert layer.prepacked is not None
        output = layer.kernel_scale(), layer.kernel_bias()
        kernel = FusedInt8Conv2d(layer.prepacked, *layer.kernel_geometry(), *output, steps, mean, pool)
        super().__init__(layer, kernel, layer.stride_of_seen(), mean, links, pool)


class FusedInt8Rows:
    """An 8-bit linear layer and its links; called with the input and what links add."""

    def __init__(self, layer: Int8Linear, links: Sequence[Link], steps: tuple[Step, ...]) -> None:
        self.layer, self.links = layer, tuple(links)
        self.has_channels = any(link.dim == 1 for link in links)
        assert layer.prepacked is not None
        weight = layer.prepacked, layer.in_features, layer.out_features
        self.kernel = FusedInt8Linear(*weight, layer.kernel_scale(), layer.kernel_bias(), steps)

    def __call__(self, input: Tensor, *others: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        if input.dtype is not torch.float32 or (self.has_channels and input.dim() != 2):
            return self.by_layers(input, others)
        output: Tensor | None = finished(self.kernel, input, others, torch.contiguous_format)
        return self.by_layers(input, others) if output is None else output

    def by_layers(self, input: Tensor, others: Sequence[Tensor]) -> Tensor:
        """The same by the modules themselves."""
        return run(self.links, self.layer(input), others)
