"""What the binary forms of whole float layers share: conversion in place."""

from typing import ClassVar, Self

from torch import nn
from torch.nn.parameter import is_lazy

from proxconnect.kernels.accumulator import Accumulator
from proxconnect.layers.base import BinaryLayer, require_binary_input
from proxconnect.pairs import AnyPair
from proxconnect.quantizer.quantizer import Quantizer, Scale, overridden


class ConvertedLayer(BinaryLayer):
    """A binary layer that is a float layer of torch's, or stands for one."""

    float_type: ClassVar[type[nn.Module]]
    """The torch layer that this one is the binary form of."""

    @classmethod
    def convert(
        cls, layer: nn.Module, *, weights: str | AnyPair = "bnn++",
        activations: str | AnyPair | None = None, scale: Scale = "channel", accumulator: Accumulator | None = None,
    ) -> Self:  # fmt: skip
        """Turn a float layer into a binary one in place, so that whoever holds it holds the binary one.

        Its parameter becomes the latent, the same object, so that an optimizer that holds it goes on. `weights` and
        `activations` are the pairs of the weights and, unless None, of the input; `scale` is what shares a scale;
        `accumulator` holds the sums of a layer whose input is binary. TypeError unless `layer` is of the float type (or
        a subclass, whose own methods are lost) and its weight a plain parameter with a shape; ValueError for an unknown
        pair or scale, or an accumulator without activations. On any error the layer stays as it was.
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
        require_binary_input(accumulator, activations)  # what may refuse comes before the first change
        for pair, its_scale in ((weights, scale), (activations, None)):
            if pair is not None:
                Quantizer(pair, its_scale)
        layer._parameters = {"latent" if name == "weight" else name: p for name, p in layer._parameters.items()}
        layer.__class__ = cls
        assert isinstance(layer, cls)
        layer._quantise_by(weights, activations, scale, accumulator)
        return layer.train(layer.training)

    @classmethod
    def float_class(cls, candidate: type[nn.Module]) -> type[nn.Module] | None:
        """The class of which this is the binary form and `candidate` a subclass; None where it is none."""
        return cls.float_type if issubclass(candidate, cls.float_type) else None

    @classmethod
    def float_name(cls) -> str:
        """How the float layer is called."""
        return cls.float_type.__name__

    @classmethod
    def float_weights(cls, layer: nn.Module) -> tuple[str, ...]:
        """The names of the parameters of a float layer that become binary."""
        return ("weight",)

    def reset_parameters(self) -> None:
        """Initialise `latent` and `bias` as the float layer does, and a learned scale from them."""
        with overridden(self, "full_precision"):  # `weight` is the latent itself here
            super().reset_parameters()  # type: ignore[misc]  # every torch layer here has it
        if "weight_quantizer" in self._modules:  # not yet in torch's __init__
            self.weight_quantizer.start_scale(self.by_channel(self.latent))
