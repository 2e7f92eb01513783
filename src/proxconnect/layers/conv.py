"""The binary forms of torch's convolutions and transposed convolutions."""

from typing import Any

from torch import nn

from proxconnect.layers.converted import ConvertedLayer
from proxconnect.layers.products import ConvProduct, TransposedConvProduct


class BinaryConv(ConvertedLayer, ConvProduct):
    """Base of `BinaryConv1d`, `BinaryConv2d` and `BinaryConv3d`.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype: as
            in torch's layer.
        weights, activations, scale, accumulator: as in `BinaryLinear`.
        padding_value: the value that `padding_mode="zeros"` pads a binary input with: 0, 1 or -1. Zeros make the sums
            at the border shorter. ±1 keeps every input of the layer in {-1, +1}, which some engines need.

    Raises:
        ValueError: `padding_value` is not 0, 1 or -1, or is ±1 without binary inputs or with another `padding_mode`.
            The other errors are those of `BinaryLinear`.
    """

    padding_mode: Any

    def __init__(self, *args: Any, padding_value: int = 0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.set_padding_value(padding_value)

    def set_padding_value(self, value: int) -> None:
        """Pad the binary input with `value`, 0, 1 or -1, from now on; ValueError as in the constructor."""
        require_padding_value(value)
        if value and self.input_quantizer is None:
            raise ValueError("padding_value is for a binary input: set activations too, or leave it 0")
        if value and self.padding_mode != "zeros":
            raise ValueError(f"padding_value {value} needs padding_mode='zeros', the layer has {self.padding_mode!r}")
        self.padding_value = int(value)

    def extra_repr(self) -> str:
        """Describe the layer, and the padding value unless it is 0."""
        shown = super().extra_repr()
        return f"{shown}, padding_value={self.padding_value}" if self.padding_value else shown


class BinaryConv1d(BinaryConv, nn.Conv1d):
    """`nn.Conv1d` with binary weights and, if `activations` names a pair, binary inputs; see `BinaryConv`."""

    float_type = nn.Conv1d


class BinaryConv2d(BinaryConv, nn.Conv2d):
    """`nn.Conv2d` with binary weights and, if `activations` names a pair, binary inputs; see `BinaryConv`."""

    float_type = nn.Conv2d


class BinaryConv3d(BinaryConv, nn.Conv3d):
    """`nn.Conv3d` with binary weights and, if `activations` names a pair, binary inputs; see `BinaryConv`."""

    float_type = nn.Conv3d


class BinaryConvTranspose(ConvertedLayer, TransposedConvProduct):
    """Base of `BinaryConvTranspose1d`, `BinaryConvTranspose2d` and `BinaryConvTranspose3d`.

    With `scale="channel"` each output channel has a scale, even if groups share dimension 1 of the weight.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, output_padding, groups, bias, dilation, padding_mode,
            device, dtype: as in torch's layer.
        weights, activations, scale, accumulator: as in `BinaryLinear`, and so are the errors.
    """


class BinaryConvTranspose1d(BinaryConvTranspose, nn.ConvTranspose1d):
    """`nn.ConvTranspose1d` with binary weights and, on request, binary inputs; see `BinaryConvTranspose`."""

    float_type = nn.ConvTranspose1d


class BinaryConvTranspose2d(BinaryConvTranspose, nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` with binary weights and, on request, binary inputs; see `BinaryConvTranspose`."""

    float_type = nn.ConvTranspose2d


class BinaryConvTranspose3d(BinaryConvTranspose, nn.ConvTranspose3d):
    """`nn.ConvTranspose3d` with binary weights and, on request, binary inputs; see `BinaryConvTranspose`."""

    float_type = nn.ConvTranspose3d


def require_padding_value(value: object) -> None:
    """Raise ValueError unless a binary input can be padded with `value`: 0, 1 or -1."""
    if value not in (-1, 0, 1) or isinstance(value, bool):
        raise ValueError(f"padding_value must be 0, 1 or -1; got {value!r}")
