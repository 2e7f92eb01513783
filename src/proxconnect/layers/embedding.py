"""The binary form of `nn.Embedding`, and the latent that it shares with a tied head."""

from collections.abc import Sequence
from typing import Any, Self

from torch import Tensor, nn

from proxconnect.layers.base import BinaryLayer
from proxconnect.layers.converted import ConvertedLayer
from proxconnect.layers.products import LookUp

INDICES = "its inputs are indices"
"""The reason why the input of an embedding stays as it is."""


class BinaryEmbedding(ConvertedLayer, LookUp, nn.Embedding):
    """`nn.Embedding` whose rows are binary, with a scale for each row or for each group of its entries.

    Arguments are those of `nn.Embedding` and, by keyword, `weights`, `scale` and `group_size` of `BinaryLinear`, where
    a channel is a row. The row of `padding_idx` starts at 0 and gets no gradient. It stays 0 if it has a scale, but is
    ±α or ±1 with a `scale` of "tensor" or None.

    Without a scale, or with a fixed one for each row, only rows that are looked up are quantised, unless there are more
    indices than rows. Otherwise all rows are, at each call.

    ValueError for `activations`, an `accumulator`, `max_norm` and `sparse=True`. The other errors are those of
    `BinaryLinear`.

    Example:
        >>> layer = pc.BinaryEmbedding(3, 2, weights="bc")
        >>> layer.weight = torch.tensor([[0.5, -0.25], [1.0, 3.0], [-1.0, -1.0]])
        >>> layer(torch.tensor([0, 1])).tolist()
        [[0.375, -0.375], [2.0, 2.0]]
    """

    float_type = nn.Embedding

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _refuse_input(kwargs)
        super().__init__(*args, **kwargs)
        if fault := fault_of(self):
            raise ValueError(f"BinaryEmbedding: {fault}")

    @classmethod
    def convert(cls, layer: nn.Module, **options: Any) -> Self:
        """Turn an `nn.Embedding` into a binary one in place, and return it, as `BinaryLinear.convert` does."""
        _refuse_input(options)
        if isinstance(layer, nn.Embedding) and (fault := fault_of(layer)):
            raise ValueError(f"this {type(layer).__name__}: {fault}")
        return super().convert(layer, **options)

    def forward(self, input: Tensor) -> Tensor:
        """Look up rows by integers (…), as (…, dim) in the dtype of `latent`."""
        quantizer = self.weight_quantizer
        # Each row has its own scale, or none. Hooks on the quantizer, as those of a Recorder, want the whole latent.
        is_apart = quantizer.scale in ("channel", None) and not quantizer._forward_hooks
        if is_apart and input.numel() < self.num_embeddings:
            rows = self.multiply(input, self.latent, None)
            return self._quantised_of(rows.view(input.numel(), rows.shape[-1])).view(rows.shape)
        return self.multiply(input, self._quantised(), None)


def fault_of(layer: nn.Embedding) -> str:
    """Return in words why an embedding cannot be binary, or "" if it can."""
    if layer.max_norm is not None:
        return "max_norm writes to its weight at each look-up, and a binary weight is computed: leave it out"
    return "its gradients are sparse, and those of latents are not: leave `sparse` out" if layer.sparse else ""


def _refuse_input(options: dict[str, Any]) -> None:
    given = [name for name in ("activations", "accumulator") if options.get(name) is not None]
    if given:
        raise ValueError(f"an embedding takes no {' and no '.join(given)}, because {INDICES}: leave that out")


def share_quantizer(layers: Sequence[BinaryLayer]) -> None:
    """Let binary layers that share one latent share the quantizer of the first one: its scales, μ and mode."""
    for layer in layers[1:]:
        layer.weight_quantizer = layers[0].weight_quantizer
