"""Binary forms of float layers, and conversion in place."""

from typing import Any, ClassVar, Self

from torch import nn
from torch.nn.parameter import is_lazy

from proxconnect._support.arguments import require_module
from proxconnect.kernels.accumulator import Accumulator
from proxconnect.layers.base import BinaryLayer, require_binary_input
from proxconnect.layers.react import Shift
from proxconnect.pairs import AnyPair
from proxconnect.quantizer.quantizer import Quantizer, Scale, overridden


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


class ConvertedLayer(BinaryForm, BinaryLayer):
    """Base of binary layers that replace a float layer: construct one like the float layer, or `convert` one.

    It takes the arguments of the float layer, and `weights`, `activations`, `scale`, `accumulator` as `BinaryLinear`.
    """

    def __init__(
        self, *args: Any, weights: str | AnyPair = "bnn++", activations: str | AnyPair | None = None,
        scale: Scale = "channel", accumulator: Accumulator | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(*args, **kwargs)
        self._quantise_by(weights, activations, scale, accumulator)

    @classmethod
    def convert(
        cls, layer: nn.Module, *, weights: str | AnyPair = "bnn++",
        activations: str | AnyPair | None = None, scale: Scale = "channel", accumulator: Accumulator | None = None,
    ) -> Self:  # fmt: skip
        """Turn a float layer into a binary one in place, and return it.

        The layer stays the same object, and so does its parameter, which becomes the latent. On any error the layer
        stays as it was.

        Args:
            layer: a layer of the float type, or of a subclass, whose own methods are lost.
            weights, activations, scale, accumulator: as in `BinaryLinear`.

        Raises:
            TypeError: `layer` has another type, or its weight is no plain parameter with a shape.
            ValueError: as in `BinaryLinear`.
        """
        if isinstance(layer, BinaryLayer) or cls.float_class(type(layer)) is None:
            raise TypeError(f"{cls.__name__}.convert takes a {cls.float_name()}, got {type(layer).__name__}")
        weight = layer._parameters.get("weight")
        if weight is not None and is_lazy(weight):
            raise TypeError(f"this {type(layer).__name__} has no shape yet: run it once on an example first")
        if weight is None:
            raise TypeError(
                f"the weight of this {type(layer).__name__} is no plain parameter (parametrized, weight-normed or "
                "pruned?): remove that first, as torch.nn.utils.parametrize.remove_parametrizations does"
            )
        require_binary_input(accumulator, activations)  # raise before the first change
        for pair, own_scale in ((weights, scale), (activations, None)):
            if pair is not None:
                Quantizer(pair, own_scale)
        layer._parameters = {"latent" if name == "weight" else name: p for name, p in layer._parameters.items()}
        layer.__class__ = cls
        assert isinstance(layer, cls)
        layer._quantise_by(weights, activations, scale, accumulator)
        return layer.train(layer.training)

    @classmethod
    def float_weights(cls, layer: nn.Module) -> tuple[str, ...]:
        """Return the names of the parameters of the float `layer` that `convert` makes binary."""
        return ("weight",)

    def reset_parameters(self) -> None:
        """Initialise `latent` and `bias` like the float layer, and reset a learned scale to the mean |latent|."""
        with overridden(self, "full_precision"):  # `weight` is the latent itself here
            super().reset_parameters()  # type: ignore[misc]  # every torch layer here has it
        if "weight_quantizer" in self._modules:  # not yet in torch's __init__
            self.weight_quantizer.start_scale(self.by_channel(self.latent))


def add_thresholds(model: nn.Module) -> nn.Module:
    """Give every layer with binary inputs a learned threshold per input channel, in place, and return the model.

    Such a layer adds its `input_shift`, which starts at 0, before it takes signs: the threshold is -shift. A layer that
    has a shift keeps it. In-projections of `BinaryMultiheadAttention` get none.

    Call it after `binarize` and before you make the optimizer. Packed layers keep their shifts, so `load` takes the
    same float model as before.

    Raises:
        ValueError: no layer has binary inputs.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))
        >>> pc.add_thresholds(pc.binarize(model, "bnn++", "poly"))[1].input_shift
        Shift(8, dim=-1)
    """
    require_module(model, "add_thresholds(model)")
    layers = [m for m in model.modules() if isinstance(m, ConvertedLayer) and m.has_binary_input]
    if not layers:
        is_binary = any(isinstance(m, BinaryLayer) for m in model.modules())
        state = "no layer has binary inputs" if is_binary else "the model has no binary layer"
        raise ValueError(f'{state}: call binarize(model, weights, activations="poly") first')
    for layer in layers:
        if layer.input_shift is None:
            channels = layer.input_channels(tuple(layer.latent.shape))
            layer.input_shift = Shift(channels, layer.output_axis, layer.latent.device, layer.latent.dtype)
    return model
