"""What every binary layer shares: the latent parameter, the property `weight`, conversion, loading."""

import warnings
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from proxconnect.layers import guard
from proxconnect.pairs import AnyPair
from proxconnect.quantizer import UNSCALED_MAGNITUDE, Quantizer, Scale, overridden


class BinaryLayer(nn.Module):
    """Mixin over a torch layer: its parameter is `latent`, and `weight` is a property, what the layer multiplies by.

    In `train()` `weight` is α·F_μ(latent/ᾱ) with the gradient of B, in `eval()` the hard ᾱ·sign(latent). It has the
    semantics of `torch.nn.utils.parametrize`: assigning a tensor writes `latent`, and an in-place write to what the
    property returned is lost (`nn.init.normal_(layer.weight)` is the classic; write to `layer.latent`).

    A state dict of the float layer loads: its `weight` is read as `latent`, and a missing μ is kept as it is.
    """

    float_type: ClassVar[type[nn.Module]]
    """The torch layer that this one is the binary form of."""

    latent: Tensor
    weight_quantizer: Quantizer
    input_quantizer: Quantizer | None

    @classmethod
    def convert(
        cls, layer: nn.Module, *, weights: str | AnyPair = "bnn++",
        activations: str | AnyPair | None = None, scale: Scale = "channel",
    ) -> Self:  # fmt: skip
        """Turn a float layer into a binary one in place, so that whoever holds it holds the binary one.

        Its parameter becomes the latent, the same object, so that an optimizer that holds it goes on. `weights` and
        `activations` are the pairs of the weights and, unless None, of the input; `scale` is what shares a scale.
        TypeError unless `layer` is of the float type (or a subclass, whose own methods are lost) and its weight a plain
        parameter with a shape; ValueError for an unknown pair or scale. On any error the layer stays as it was.
        """
        if isinstance(layer, BinaryLayer) or not isinstance(layer, cls.float_type):
            raise TypeError(f"{cls.__name__}.convert takes a {cls.float_type.__name__}, got {type(layer).__name__}")
        weight = layer._parameters.get("weight")
        if weight is not None and is_lazy(weight):
            raise TypeError(f"this {type(layer).__name__} has no shape yet: run it once on an example first")
        if weight is None:
            raise TypeError(
                f"the weight of this {type(layer).__name__} is no plain parameter (parametrized, weight-normed or "
                "pruned?): remove that first, as torch.nn.utils.parametrize.remove_parametrizations does"
            )
        quantizers = quantizers_of(weights, activations, scale)  # before the first change, for they may refuse
        layer._parameters = {"latent" if name == "weight" else name: p for name, p in layer._parameters.items()}
        layer.__class__ = cls
        assert isinstance(layer, cls)
        layer._add_quantizers(*quantizers)
        return layer.train(layer.training)

    def _add_quantizers(self, weight_quantizer: Quantizer, input_quantizer: Quantizer | None) -> None:
        device, dtype = self.latent.device, torch.promote_types(self.latent.dtype, torch.float32)  # of μ
        self.weight_quantizer = weight_quantizer.to(device, dtype)
        self.input_quantizer = None if input_quantizer is None else input_quantizer.to(device, dtype)

    @property
    def quantizers(self) -> dict[str, Quantizer]:
        """The layer's quantizers by part: "weights" and, where the input is quantised, "activations"."""
        parts = {"weights": self.weight_quantizer}
        if self.input_quantizer is not None:
            parts["activations"] = self.input_quantizer
        return parts

    @property
    def weight(self) -> Tensor:
        """What the layer multiplies by, with the shape and dtype of `latent`."""
        try:
            quantizer = self._modules.get("weight_quantizer")
            return self.latent if quantizer is None else quantizer(self.latent)  # not yet there in torch's __init__
        except AttributeError as error:  # torch would report it as "no attribute 'weight'"
            raise RuntimeError(f"the weight of {type(self).__name__} could not be computed: {error}") from error

    @weight.setter
    def weight(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(
                f"layer.weight takes a tensor, which is written to layer.latent; got {type(value).__name__}"
            )
        if value.grad_fn is not None:
            raise ValueError(
                "layer.weight takes a tensor that is no result of a differentiable computation: assign value.detach(), "
                "or for torch.func.functional_call pass the parameter under its name `latent`"
            )
        if value.shape != self.latent.shape:
            raise ValueError(f"layer.latent has shape {tuple(self.latent.shape)}; got {tuple(value.shape)}")
        with torch.no_grad():
            self.latent.copy_(value)

    @property
    def binary_weight(self) -> Tensor:
        """The hard weight ᾱ·sign(latent), without gradient, in every mode."""
        return self.weight_quantizer.hard(self.latent)

    def quantize_input(self, input: Tensor) -> Tensor:
        """The input as the layer multiplies it: quantised where activations are binary."""
        return input if self.input_quantizer is None else self.input_quantizer(input)

    def reset_parameters(self) -> None:
        """Initialise `latent` and `bias` as the float layer does."""
        with overridden(self, "full_precision"):  # `weight` is the latent itself here
            super().reset_parameters()  # type: ignore[misc]  # every torch layer here has it

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """As torch's, except that "weight" is called `latent` here."""
        if name in ("weight", "weight_orig") and "latent" in self._parameters:
            raise TypeError(
                f"{type(self).__name__}.weight is computed from the parameter `latent` and cannot hold a parameter: "
                "name `latent` instead, or assign a plain tensor to copy it into `latent`. (±1 has no zero: a pruned "
                "latent is +1 when hard)"
            )
        super().register_parameter("latent" if name == "weight" else name, param)

    def train(self, mode: bool = True) -> Self:
        """As torch's; `eval()` also arms the guard against optimizer steps with hard weights.

        It warns where a soft pair was trained whose μ nothing moved, because `eval()` hardens it.
        """
        super().train(mode)
        if not mode:
            guard.watch(self)
            self._warn_of_unmoved_sharpness()
        return self

    def _warn_of_unmoved_sharpness(self) -> None:
        for part, quantizer in self.quantizers.items():
            if quantizer.is_soft_and_unmoved():
                warnings.warn(
                    f"{part} ran in train() by the soft pair {quantizer.pair.name!r} at μ = {float(quantizer.mu):g}, "
                    "which nothing moves, and eval() makes them hard, another function: let "
                    f"proxconnect.Sharpening(optimizer, model, steps=..., part={part!r}) move μ while training, "
                    "or fix it with pair.at(mu)",
                    stacklevel=3,
                )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if not self.training:
            guard.watch(self)

    def extra_repr(self) -> str:
        """The float layer's, and how `weight` comes from `latent`."""
        quantizer = self.weight_quantizer
        return f"{super().extra_repr()}, weight={quantizer.pair.name}(latent), scale={quantizer.scale}"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if prefix + "weight" in state_dict and prefix + "latent" not in state_dict:
            state_dict[prefix + "latent"] = state_dict.pop(prefix + "weight")
        super()._load_from_state_dict(state_dict, prefix, *args)


def quantizers_of(
    weights: str | AnyPair, activations: str | AnyPair | None, scale: Scale
) -> tuple[Quantizer, Quantizer | None]:
    """The quantizers of a layer's weights and inputs."""
    inputs = None if activations is None else Quantizer(activations, None)
    return Quantizer(weights, scale, magnitude=UNSCALED_MAGNITUDE), inputs
