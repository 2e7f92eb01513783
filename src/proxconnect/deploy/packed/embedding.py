"""Embeddings of 8-bit rows: most of a small language model's file, where they stay float."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from proxconnect.deploy.packed.levels import Int8Layer


class Int8Embedding(Int8Layer, nn.Embedding):
    """`nn.Embedding` with 8-bit weights: the rows that are looked up, times their scales; `layer.weight` unpacks all.

    An entry of the output is off by at most half the scale of its row, up to the rounding of the dtype.
    """

    kind = "int8_embedding"
    float_type = nn.Embedding

    def forward(self, input: Tensor) -> Tensor:
        """Integers (…) → (…, dim), in the dtype of `scale`, exactly rows of `weight`."""
        return functional.embedding(input, self.levels).to(self.scale.dtype) * self._scales(input)

    def exact_and_bound(self, weight: Tensor, bias: Tensor | None, input: Tensor) -> tuple[Tensor, Tensor]:
        """As of every 8-bit layer."""
        return functional.embedding(input, weight), self._scales(input).double() / 2

    def multiply(self, input: Tensor, weight: Tensor, bias: Tensor | None, *args: Any) -> Tensor:
        """The rows of `weight`, as `nn.Embedding` looks them up."""
        return functional.embedding(input, weight)

    def _scales(self, input: Tensor) -> Tensor:
        return functional.embedding(input, self.scale.unsqueeze(-1))
