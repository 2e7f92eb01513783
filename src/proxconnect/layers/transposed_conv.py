"""The binary forms of torch's transposed convolutions."""

from typing import Any

from torch import nn

from proxconnect.kernels.accumulator import Accumulator
from proxconnect.layers.converted import ConvertedLayer
from proxconnect.layers.products import TransposedConvProduct
from proxconnect.pairs import AnyPair
from proxconnect.quantizer.quantizer import Scale


class BinaryConvTranspose(ConvertedLayer, TransposedConvProduct):
    """What `BinaryConvTranspose1d`, `BinaryConvTranspose2d` and `BinaryConvTranspose3d` share.

    A scale per channel has one for each output channel, also where groups share dimension 1 of the weight.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, output_padding, groups, bias, dilation, padding_mode,
            device, dtype: as torch's layer takes them.
        weights: the pair of the weights.
        activations: the pair of the input, or None for a float input.
        scale: what shares a scale: each output "channel", the "tensor", or nothing (None); "learned" trains one per
            channel.
        accumulator: what holds the sums of binary inputs, or None for one that never overflows.

    Raises:
        ValueError: an unknown pair or scale, a scale that the pair cannot learn, or an accumulator without activations.
        TypeError: for anything that is no pair or `Accumulator`.
    """

    def __init__(
        self, *args: Any, weights: str | AnyPair = "bnn++", activations: str | AnyPair | None = None,
        scale: Scale = "channel", accumulator: Accumulator | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(*args, **kwargs)
        self._quantise_by(weights, activations, scale, accumulator)


class BinaryConvTranspose1d(BinaryConvTranspose, nn.ConvTranspose1d):
    """`nn.ConvTranspose1d`, binary; see `BinaryConvTranspose`."""

    float_type = nn.ConvTranspose1d


class BinaryConvTranspose2d(BinaryConvTranspose, nn.ConvTranspose2d):
    """`nn.ConvTranspose2d`, binary; see `BinaryConvTranspose`."""

    float_type = nn.ConvTranspose2d


class BinaryConvTranspose3d(BinaryConvTranspose, nn.ConvTranspose3d):
    """`nn.ConvTranspose3d`, binary; see `BinaryConvTranspose`."""

    float_type = nn.ConvTranspose3d
