"""The binary forms of `nn.Linear` and of transformers' transposed `Conv1D`."""

from typing import Any

from torch import nn

from proxconnect.kernels.accumulator import Accumulator
from proxconnect.layers.converted import ConvertedLayer
from proxconnect.layers.products import LinearProduct, TransposedLinearProduct
from proxconnect.pairs import AnyPair
from proxconnect.quantizer.quantizer import Scale


class BinaryLinear(ConvertedLayer, LinearProduct, nn.Linear):
    """`nn.Linear` with binary weights and, where `activations` names a pair, binary inputs.

    Args:
        in_features, out_features, bias, device, dtype: as `nn.Linear` takes them.
        weights: the pair of the weights.
        activations: the pair of the input, or None for a float input.
        scale: what shares a scale: each output "channel", the "tensor", or nothing (None); "learned" trains one per
            channel.
        accumulator: what holds the sums of binary inputs, or None for one that never overflows.

    Raises:
        ValueError: an unknown pair or scale, a scale that the pair cannot learn, or an accumulator without activations.
        TypeError: for anything that is no pair or `Accumulator`.

    Example:
        >>> layer = pc.BinaryLinear(2, 1, weights="bc")
        >>> layer.load_state_dict({"latent": torch.tensor([[0.5, -0.25]]), "bias": torch.zeros(1)})
        <All keys matched successfully>
        >>> layer(torch.tensor([1.0, 3.0])).item()  # 0.375 · (1 - 3)
        -0.75
    """

    float_type = nn.Linear

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None, *,
        weights: str | AnyPair = "bnn++", activations: str | AnyPair | None = None, scale: Scale = "channel",
        accumulator: Accumulator | None = None,
    ) -> None:  # fmt: skip
        super().__init__(in_features, out_features, bias, device, dtype)
        self._quantise_by(weights, activations, scale, accumulator)


class BinaryTransposedLinear(ConvertedLayer, TransposedLinearProduct):
    """transformers' `Conv1D`, the linear layer of GPT-2 whose weight is (in, out), binary as `BinaryLinear` is.

    `convert` makes it; it is no subclass of `Conv1D`, for which transformers would have to be imported.
    """

    _FLOAT_CLASS = ("transformers.pytorch_utils", "Conv1D")

    @classmethod
    def float_class(cls, candidate: type[nn.Module]) -> type[nn.Module] | None:
        """transformers' `Conv1D`, if `candidate` is a subclass."""
        bases = (base for base in candidate.__mro__ if (base.__module__, base.__qualname__) == cls._FLOAT_CLASS)
        return next(bases, None)

    @classmethod
    def float_name(cls) -> str:
        """`Conv1D`."""
        return cls._FLOAT_CLASS[1]

    def reset_parameters(self) -> None:
        """Initialise as `Conv1D` does."""
        nn.init.normal_(self.latent, std=0.02)
        self.weight_quantizer.start_scale(self.latent)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
