"""Layers of 8-bit weights, for the float layers of a binary network; and embeddings of 8-bit rows."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from proxconnect.deploy.packed.layers.base import CompactLayer


class Int8Layer(CompactLayer):
    """Mixin over a torch layer whose weight is `scale · levels`.

    `levels` is int8, within ±127, with the shape of the weight. `scale` has shape (out,): max|w| / 127 of each output
    channel, or of each row of an embedding. An entry of the weight is off by at most scale / 2.
    """

    held = "levels"
    own_state = ("levels", "scale")
    levels: Tensor
    float_type: ClassVar[type[nn.Module]]
    """The class of the float layer, without its subclasses."""

    def fault(self) -> str:
        """Return a fault of the scales or levels, or ""."""
        if bool((self.scale < 0).any()):
            return "a scale is negative"
        return "a weight is -128, beyond ±127" if bool((self.levels == -128).any()) else super().fault()

    def exact_and_bound(self, weight: Tensor, bias: Tensor | None, input: Tensor) -> tuple[Tensor, Tensor]:
        """Return the float layer's output for this weight, in float64, and the error bound of each entry."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Describe the float layer, and the bits."""
        return f"{super().extra_repr()}, 8 bits"

    def _numbers(self) -> Tensor:
        return self.levels.to(self.scale.dtype)


class Int8Embedding(Int8Layer, nn.Embedding):
    """`nn.Embedding` with 8-bit weights.

    An entry of the output is off by at most half the scale of its row, up to the rounding of the dtype.
    """

    kind = "int8_embedding"
    float_type = nn.Embedding

    def forward(self, input: Tensor) -> Tensor:
        """Integers (…) → (…, dim): look up rows of `weight`, in the dtype of `scale`."""
        return functional.embedding(input, self.levels).to(self.scale.dtype) * self._scales(input)

    def exact_and_bound(self, weight: Tensor, bias: Tensor | None, input: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows of `weight`, and half the scale of each."""
        return functional.embedding(input, weight), self._scales(input).double() / 2

    def multiply(self, input: Tensor, weight: Tensor, bias: Tensor | None, *args: Any) -> Tensor:
        """Look up rows of `weight`."""
        return functional.embedding(input, weight)

    def _scales(self, input: Tensor) -> Tensor:
        return functional.embedding(input, self.scale.unsqueeze(-1))


def levels_of(weight: Tensor, scale: Tensor) -> Tensor:
    """Round weight / scale to whole numbers within ±127, ties to even; `scale` has one value for each output."""
    steps = scale.double().view(-1, *(1,) * (weight.dim() - 1))
    levels = torch.where(steps > 0, weight.double() / steps, 0.0)
    return levels.round_().clamp_(-127, 127).to(torch.int8)


def scale_of(weight: Tensor) -> Tensor:
    """Return max|w| / 127 of each output, of shape (out,), in the weight's dtype."""
    return (weight.double().abs().flatten(1).amax(1) / 127).to(weight.dtype)


@torch.no_grad()
def error(layer: Int8Layer, float_layer: nn.Module, input: Tensor) -> tuple[float, float]:
    """Measure the error of an 8-bit layer on an input, and compute the largest error that it may have.

    Returns:
        max|y − y'| and the largest error bound of an output, both divided by max|y'|, where y' is the float layer's
        output in float64.

    Raises:
        ValueError: if all outputs are 0.
    """
    weight, bias = float_layer.weight, getattr(float_layer, "bias", None)
    assert isinstance(weight, Tensor)
    exact, bound = layer.exact_and_bound(weight.double(), None if bias is None else bias.double(), input)
    largest = exact.abs().max() if exact.numel() else torch.zeros(())
    if not largest > 0:
        raise ValueError("an error is relative to the largest output, and there is none but 0: pass another input")
    return float((layer(input).double() - exact).abs().max() / largest), float(bound.max() / largest)
