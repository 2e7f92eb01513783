"""The binary forms of `nn.Linear` and of transformers' transposed `Conv1D`."""

from typing import Any

from torch import nn

from proxconnect.kernels.accumulator import Accumulator
from proxconnect.layers.converted import ConvertedLayer
from proxconnect.layers.products import LinearProduct, TransposedLinearProduct
from proxconnect.pairs import AnyPair
from proxconnect.quantizer.quantizer import Scale


class BinaryLinear(ConvertedLayer, LinearProduct, nn.Linear):
    """`nn.Linear` with binary weights and, if `activations` names a pair, binary inputs.

    Args:
        in_features, out_features, bias, device, dtype: as in `nn.Linear`.
        weights: the pair of the weights: a name of `PAIRS`, a `Pair` or a `Heuristic`.
        activations: the pair of the input, or None for a float input.
        scale: "channel" for a scale per output channel, "tensor" for one in all, "learned" for a trained one per
            channel, or None.
        accumulator: the accumulator of the sums of binary inputs, or None for one that never overflows.

    Raises:
        ValueError: a pair or scale is unknown, the pair cannot learn a scale, or an accumulator has no binary inputs.
        TypeError: a pair or an accumulator has another type.

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
        super().__init__(
            in_features, out_features, bias, device, dtype,
            weights=weights, activations=activations, scale=scale, accumulator=accumulator,
        )  # fmt: skip


class BinaryTransposedLinear(ConvertedLayer, TransposedLinearProduct):
    """The binary form of transformers' `Conv1D`, the linear layer of GPT-2, whose weight is (in, out).

    Make it with `convert`. It is not a subclass of `Conv1D`, so that transformers is not imported.
    """

    _FLOAT_CLASS = ("transformers.pytorch_utils", "Conv1D")

    @classmethod
    def float_class(cls, candidate: type[nn.Module]) -> type[nn.Module] | None:
        """Return transformers' `Conv1D` if `candidate` is it or a subclass of it, else None."""
        bases = (base for base in candidate.__mro__ if (base.__module__, base.__qualname__) == cls._FLOAT_CLASS)
        return next(bases, None)

    @classmethod
    def float_name(cls) -> str:
        """Return "Conv1D", the name of the float class."""
        return cls._FLOAT_CLASS[1]

    def reset_parameters(self) -> None:
        """Initialise `latent` and `bias` as `Conv1D` does, and reset a learned scale to the mean |latent|."""
        nn.init.normal_(self.latent, std=0.02)
        self.weight_quantizer.start_scale(self.latent)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
