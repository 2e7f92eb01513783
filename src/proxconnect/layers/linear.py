"""The binary form of `nn.Linear`."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from proxconnect.layers.base import BinaryLayer, quantizers_of
from proxconnect.pairs import AnyPair
from proxconnect.quantizer import Scale


class BinaryLinear(BinaryLayer, nn.Linear):
    """`nn.Linear` with binary weights and, where `activations` names a pair, binary inputs.

    Args:
        in_features, out_features, bias, device, dtype: as `nn.Linear` takes them.
        weights: the pair of the weights.
        activations: the pair of the input, or None for a float input.
        scale: what shares a scale: each output "channel", the "tensor", or nothing (None).
    """

    float_type = nn.Linear

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None, *,
        weights: str | AnyPair = "bnn++", activations: str | AnyPair | None = None, scale: Scale = "channel",
    ) -> None:  # fmt: skip
        super().__init__(in_features, out_features, bias, device, dtype)
        self._add_quantizers(*quantizers_of(weights, activations, scale))

    def forward(self, input: Tensor) -> Tensor:
        """(…, in_features) → (…, out_features)."""
        return functional.linear(self.quantize_input(input), self.weight, self.bias)
