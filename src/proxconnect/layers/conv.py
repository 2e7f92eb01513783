"""The binary forms of torch's convolutions."""

from typing import Any

from torch import nn

from proxconnect.kernels.accumulator import Accumulator
from proxconnect.layers.converted import ConvertedLayer
from proxconnect.layers.products import ConvProduct
from proxconnect.pairs import AnyPair
from proxconnect.quantizer.quantizer import Scale


class BinaryConv(ConvertedLayer, ConvProduct):
    """What `BinaryConv1d`, `BinaryConv2d` and `BinaryConv3d` share.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype: as
            torch's layer takes them.
        weights: the pair of the weights.
        activations: the pair of the input, or None for a float input.
        scale: what shares a scale: each output "channel", the "tensor", or nothing (None); "learned" trains one per
            channel.
        accumulator: what holds the sums of binary inputs, or None for one that never overflows.
        padding_value: what `padding_mode="zeros"` pads a binary input with, 0, 1 or -1. Zeros leave the border's sums
            shorter; ±1 keeps every input of the layer in {-1, +1}, which some engines need.

    Raises:
        ValueError: an unknown pair or scale, a scale that the pair cannot learn, an accumulator without activations, or
            a padding value that is none of these, has no binary input to pad or another `padding_mode`.
        TypeError: for anything that is no pair or `Accumulator`.
    """

    padding_mode: Any

    def __init__(
        self, *args: Any, weights: str | AnyPair = "bnn++", activations: str | AnyPair | None = None,
        scale: Scale = "channel", accumulator: Accumulator | None = None, padding_value: int = 0, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(*args, **kwargs)
        self._quantise_by(weights, activations, scale, accumulator)
        self.set_padding_value(padding_value)

    def set_padding_value(self, value: int) -> None:
        """Pad the binary input with `value`, 0, 1 or -1; ValueError where the layer pads otherwise."""
        require_padding_value(value)
        if value and self.input_quantizer is None:
            raise ValueError("padding_value is for a binary input: set activations too, or leave it 0")
        if value and self.padding_mode != "zeros":
            raise ValueError(f"padding_value {value} needs padding_mode='zeros', the layer has {self.padding_mode!r}")
        self.padding_value = int(value)

    def extra_repr(self) -> str:
        """The float layer's, how `weight` comes from `latent`, and the padding value where it is not 0."""
        shown = super().extra_repr()
        return f"{shown}, padding_value={self.padding_value}" if self.padding_value else shown


class BinaryConv1d(BinaryConv, nn.Conv1d):
    """`nn.Conv1d` with binary weights and, where `activations` names a pair, binary inputs; see `BinaryConv`."""

    float_type = nn.Conv1d


class BinaryConv2d(BinaryConv, nn.Conv2d):
    """`nn.Conv2d` with binary weights and, where `activations` names a pair, binary inputs; see `BinaryConv`."""

    float_type = nn.Conv2d


class BinaryConv3d(BinaryConv, nn.Conv3d):
    """`nn.Conv3d` with binary weights and, where `activations` names a pair, binary inputs; see `BinaryConv`."""

    float_type = nn.Conv3d


def require_padding_value(value: object) -> None:
    """Raise ValueError unless `value` is one that a binary input can be padded with, 0, 1 or -1."""
    if value not in (-1, 0, 1) or isinstance(value, bool):
        raise ValueError(f"padding_value must be 0, 1 or -1; got {value!r}")
