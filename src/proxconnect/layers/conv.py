"""The binary form of `nn.Conv2d`."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from proxconnect.layers.base import BinaryLayer, quantizers_of
from proxconnect.pairs import AnyPair
from proxconnect.quantizer import Scale


class BinaryConv2d(BinaryLayer, nn.Conv2d):
    """`nn.Conv2d` with binary weights and, where `activations` names a pair, binary inputs.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype: as
            `nn.Conv2d` takes them.
        weights: the pair of the weights.
        activations: the pair of the input, or None for a float input.
        scale: what shares a scale: each output "channel", the "tensor", or nothing (None).
        padding_value: what `padding_mode="zeros"` pads a binary input with, 0, 1 or -1. Zeros leave the border's sums
            shorter; ±1 keeps every input of the layer in {-1, +1}, which some engines need.
    """

    float_type = nn.Conv2d
    padding_value: int = 0

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1, padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1, groups: int = 1, bias: bool = True,
        padding_mode: Any = "zeros", device: Any = None, dtype: Any = None, *,
        weights: str | AnyPair = "bnn++", activations: str | AnyPair | None = None, scale: Scale = "channel",
        padding_value: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype
        )  # fmt: skip
        self._add_quantizers(*quantizers_of(weights, activations, scale))
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

    def forward(self, input: Tensor) -> Tensor:
        """(N, C_in, H, W) or (C_in, H, W) → (N, C_out, H_out, W_out) or (C_out, H_out, W_out)."""
        return convolve(self, self.quantize_input(input), self.weight, self.padding_value)


def require_padding_value(value: object) -> None:
    """Raise ValueError unless `value` is one that a binary input can be padded with, 0, 1 or -1."""
    if value not in (-1, 0, 1) or isinstance(value, bool):
        raise ValueError(f"padding_value must be 0, 1 or -1; got {value!r}")


def convolve(layer: nn.Conv2d, input: Tensor, weight: Tensor, padding_value: int) -> Tensor:
    """The convolution that `layer` describes, its border filled with `padding_value` where it pads with zeros."""
    if padding_value == 0:
        output: Tensor = layer._conv_forward(input, weight, layer.bias)
        return output
    padded = functional.pad(input, layer._reversed_padding_repeated_twice, value=padding_value)
    return functional.conv2d(padded, weight, layer.bias, layer.stride, 0, layer.dilation, layer.groups)
