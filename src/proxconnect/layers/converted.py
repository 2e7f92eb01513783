"""The binary forms of torch's linear layers and convolutions, and of transformers' `Conv1D`."""

from typing import Any, ClassVar, Self

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from proxconnect._support.arguments import finite, require_module
from proxconnect.kernels.accumulator import Accumulator
from proxconnect.layers.added_names import with_added_names
from proxconnect.layers.base import BinaryLayer, pair_of_inputs, require_binary_input
from proxconnect.layers.groups import require_divisible, require_groups
from proxconnect.layers.left_out import expect_in_optimizer
from proxconnect.layers.products import (
    ConvProduct,
    LinearProduct,
    TakesOutputSize,
    TransposedConvProduct,
    TransposedLinearProduct,
)
from proxconnect.layers.react import Shift
from proxconnect.pairs import AnyPair
from proxconnect.quantizer.quantizer import Quantizer, overridden
from proxconnect.quantizer.scales import Scale


class BinaryForm(nn.Module):
    """Mixin of a binary class that names the float class which it replaces."""

    float_type: ClassVar[type[nn.Module]]
    """The float class that this class replaces, such as `nn.Linear`."""

    @classmethod
    def float_class(cls, candidate: type[nn.Module]) -> type[nn.Module] | None:
        """Return the float class that this class replaces if `candidate` is it or a subclass of it, else None."""
        return cls.float_type if issubclass(candidate, cls.float_type) else None

    @classmethod
    def float_name(cls) -> str:
        """Return the name of the float class that this class replaces, such as "Linear"."""
        return cls.float_type.__name__

    @classmethod
    def float_weights(cls, layer: nn.Module) -> tuple[str, ...]:
        """Return the names of the parameters of the float `layer` that `convert` makes binary."""
        return ("weight",)

    @classmethod
    def row_sizes(cls, layer: nn.Module) -> tuple[int, ...]:
        """Return the number of inputs of each weight of a float `layer`; () if it is not linear."""
        weights = (layer._parameters.get(name) for name in cls.float_weights(layer))
        dim = getattr(cls, "input_dim", None)
        return () if dim is None else tuple(weight.shape[dim] for weight in weights if weight is not None)


class ConvertedLayer(BinaryForm, BinaryLayer):
    """Base class of the binary forms of float layers, constructed with these layers' arguments, or by `convert`.

    The options `weights`, `activations`, `scale`, `accumulator` and `group_size` are those of `BinaryLinear`.
    """

    def __init__(
        self, *args: Any, weights: str | AnyPair = "bnn++", activations: str | AnyPair | None = None,
        scale: Scale = "channel", accumulator: Accumulator | None = None, group_size: int | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(*args, **kwargs)
        self._quantise_by(weights, activations, scale, accumulator, group_size)

    @classmethod
    def convert(
        cls, layer: nn.Module, *, weights: str | AnyPair = "bnn++",
        activations: str | AnyPair | None = None, scale: Scale = "channel", accumulator: Accumulator | None = None,
        group_size: int | None = None,
    ) -> Self:  # fmt: skip
        """Turn a float layer into a binary one in place, and return it; options and errors are those of `BinaryLinear`.

        The parameter becomes the latent, as the same object. Of a subclass of the float type the layer keeps the names
        that it adds, but loses what it overrides. TypeError if `layer` has another type, or its weight is no plain
        parameter with a shape. On these errors it stays as it was.
        """
        kind = type(layer)
        if isinstance(layer, BinaryLayer) or cls.float_class(kind) is None:
            raise TypeError(f"{cls.__name__}.convert takes a {cls.float_name()}, got {kind.__name__}")
        weight = layer._parameters.get("weight")
        if weight is None:
            raise TypeError(
                f"the weight of this {kind.__name__} is no plain parameter (parametrized, weight-normed or pruned?): "
                "remove that first, as torch.nn.utils.parametrize.remove_parametrizations does"
            )
        if is_lazy(weight):
            raise TypeError(f"this {kind.__name__} has no shape yet: run it once on an example first")
        input_pair = pair_of_inputs(activations)  # raise before the first change
        require_binary_input(accumulator, input_pair)
        require_groups(group_size, scale)
        require_divisible(group_size, input_pair, cls.row_sizes(layer), kind.__name__)
        for pair, own_scale in ((weights, scale), (activations, None)):
            if pair is not None:
                Quantizer(pair, own_scale)
        layer._parameters = {"latent" if name == "weight" else name: p for name, p in layer._parameters.items()}
        layer.__class__ = with_added_names(cls, kind)
        assert isinstance(layer, cls)
        layer._quantise_by(weights, activations, scale, accumulator, group_size)
        return layer.train(layer.training)

    def reset_parameters(self) -> None:
        """Initialise `latent` and `bias` like the float layer, and reset a learned scale to the mean |latent|."""
        with overridden(self, "full_precision"):  # `weight` is the latent itself here
            super().reset_parameters()  # type: ignore[misc]  # every torch layer here has it
        if "weight_quantizer" in self._modules:  # not yet in torch's __init__
            self.weight_quantizer.start_scale(self.by_channel(self.latent))


class BinaryLinear(ConvertedLayer, LinearProduct, nn.Linear):
    """`nn.Linear` with binary weights and, on request, binary inputs.

    Args:
        in_features, out_features, bias, device, dtype: as in `nn.Linear`.
        weights: the pair of the weights: a name of `PAIRS`, a `Pair` or a `Heuristic`.
        activations: the pair of the input; None or "fp" for a float input.
        scale: "channel" for a scale per output channel, "tensor" for one in all, "learned" for a trained one per
            channel, or None.
        accumulator: the accumulator of the sums of binary inputs, or None for one that never overflows.
        group_size: give every `group_size` inputs of an output channel a scale of their own, as GGUF's Q1_0 does with
            128; None for one scale a channel.

    Raises:
        ValueError: a pair or scale is unknown, the pair cannot learn a scale, an accumulator has no binary inputs, or
            groups have them, do not divide the inputs, or have a scale that is not per channel.
        TypeError: a pair, an accumulator or a group size has another type.

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
        accumulator: Accumulator | None = None, group_size: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            in_features, out_features, bias, device, dtype,
            weights=weights, activations=activations, scale=scale, accumulator=accumulator, group_size=group_size,
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
        self.weight_quantizer.start_scale(self.by_channel(self.latent))
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class BinaryConv(ConvertedLayer, ConvProduct):
    """Base of `BinaryConv1d`, `BinaryConv2d` and `BinaryConv3d`.

    Arguments are those of torch's layer and, by keyword, `weights`, `activations`, `scale` and `accumulator` of
    `BinaryLinear`, and `padding_value`: 0, 1 or -1, with which `padding_mode="zeros"` pads a binary input. Zeros make
    the sums at the border shorter. ±1 keeps every input in {-1, +1}, which some engines need.

    ValueError for another `padding_value`, and for ±1 without binary inputs or with another `padding_mode`. The other
    errors are those of `BinaryLinear`.
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
    """`nn.Conv1d` with binary weights and, on request, binary inputs; see `BinaryConv`."""

    float_type = nn.Conv1d


class BinaryConv2d(BinaryConv, nn.Conv2d):
    """`nn.Conv2d` with binary weights and, on request, binary inputs; see `BinaryConv`."""

    float_type = nn.Conv2d


class BinaryConv3d(BinaryConv, nn.Conv3d):
    """`nn.Conv3d` with binary weights and, on request, binary inputs; see `BinaryConv`."""

    float_type = nn.Conv3d


class BinaryConvTranspose(TakesOutputSize, ConvertedLayer, TransposedConvProduct):
    """Base of `BinaryConvTranspose1d`, `BinaryConvTranspose2d` and `BinaryConvTranspose3d`.

    Arguments are those of torch's layer and, by keyword, `weights`, `activations`, `scale` and `accumulator` of
    `BinaryLinear`, with its errors. With a `scale` of "channel" or "learned" each output channel has a scale, even if
    groups share dimension 1 of the weight.
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


def add_thresholds(model: nn.Module, start: float = 0.0) -> nn.Module:
    """Give every layer with binary inputs a learned threshold per input channel, in place, and return the model.

    Such a layer adds its `input_shift` to its input first: the threshold of signs is -shift. A layer that has a shift
    keeps it. In-projections of `BinaryMultiheadAttention` get none.

    Call it after `binarize` and before you make the optimizer. Packed layers keep their shifts, so `load` takes the
    same float model as before.

    Args:
        model: a binary model.
        start: the thresholds at first. Behind a ReLU, which leaves no negative values, they should be positive.

    Raises:
        ValueError: no layer has binary inputs, or only in-projections do, or `start` is infinite or NaN.
        TypeError: `model` is no module, or `start` no number.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))
        >>> pc.add_thresholds(pc.binarize(model, "bnn++", "poly"))[1].input_shift
        Shift(8, dim=-1)
    """
    require_module(model, "add_thresholds(model)")
    start = finite(start, "start")
    binary = [m for m in model.modules() if isinstance(m, BinaryLayer)]
    layers = [m for m in binary if isinstance(m, ConvertedLayer) and m.has_binary_input]
    if not layers and any(m.has_binary_input for m in binary):
        raise ValueError("only in-projections of attention have binary inputs, and these take no threshold: make other "
                         "layers binary too")  # fmt: skip
    if not layers:
        state = "no layer has binary inputs" if binary else "the model has no binary layer"
        raise ValueError(f'{state}: call binarize(model, weights, activations="poly") first')
    for layer in layers:
        if layer.input_shift is None:
            channels = layer.input_channels(tuple(layer.latent.shape))
            with torch.inference_mode(False):  # so that it can be trained
                layer.input_shift = Shift(channels, layer.output_axis, layer.latent.device, layer.latent.dtype)
                nn.init.constant_(layer.input_shift.shift, -start)
            expect_in_optimizer(layer)
    return model
