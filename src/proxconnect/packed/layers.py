"""Packed layers: 1 bit a weight plus scales, for inference."""

import copy
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from proxconnect.layers import BinaryConv2d, BinaryLayer, BinaryLinear
from proxconnect.layers.conv import convolve
from proxconnect.packed.bits import unpack_bits
from proxconnect.packed.geometry import geometry_of
from proxconnect.packed.spec import LayerSpec
from proxconnect.pairs.prox import sign

_REPLACED = ("latent", "weight", "weight_quantizer", "input_quantizer", "_compiled_call_impl")


class PackedLayer(nn.Module):
    """Mixin over a torch layer: its weight is `scale`·±1, the signs held as `bits`; `pack` and `load` make it.

    `bits` is uint8 of shape (⌈n/8⌉,), laid out as `pack_bits` does. `scale` is a float buffer of shape (out,), one of
    shape (), or a 1 that is no part of the state dict where the layer has no scale; its dtype is that of the layer.
    """

    kind: ClassVar[str]
    """How the file's metadata calls this layer."""
    float_type: ClassVar[type[nn.Module]]
    """The torch layer that this one is the packed form of."""

    bits: Tensor
    scale: Tensor
    _spec: LayerSpec

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError(f"a {type(self).__name__} is made by packing: call pack(binary_model) or load(path, model)")

    @property
    def spec(self) -> LayerSpec:
        """What the layer is but for its tensors."""
        return replace(self._spec, dtype=self.scale.dtype, geometry=geometry_of(self))

    @property
    def weight(self) -> Tensor:
        """What the layer multiplies by, unpacked: float, of the float layer's shape, in the dtype of `scale`."""
        signs = unpack_bits(self.bits, self._spec.shape, self.scale.dtype)
        if self._spec.scale is None:
            return signs
        return signs * self.scale.view(-1, *(1,) * (signs.dim() - 1))

    @weight.setter
    def weight(self, value: object) -> None:
        raise TypeError("the weight of a packed layer is read-only: change the binary model and pack it again")

    def forward(self, input: Tensor) -> Tensor:
        """What the binary layer answers under `hard()`, to the bit."""
        return self.compute(self.prepare_input(input))

    @abstractmethod
    def compute(self, input: Tensor) -> Tensor:
        """The layer's product with an input that is prepared."""

    def prepare_input(self, input: Tensor) -> Tensor:
        """The input as the layer multiplies it: its signs where activations are binary."""
        return sign(input, 1.0) if self._spec.binary_input else input

    def extra_repr(self) -> str:
        """The float layer's, and what is packed."""
        input_bits = ", binary input" if self._spec.binary_input else ""
        return f"{super().extra_repr()}, packed, scale={self._spec.scale}{input_bits}"

    @classmethod
    def _blank(cls) -> Self:
        return cls.__new__(cls)

    def _become(self, layer: nn.Module, spec: LayerSpec, memo: dict[int, Any]) -> None:
        """Take over all of `layer` (hooks, bias, options) but its weight and quantizers; `bits` and `scale` on meta."""
        state = {name: value for name, value in vars(layer).items() if name not in _REPLACED}
        for registry in ("_parameters", "_modules"):
            state[registry] = {name: value for name, value in state[registry].items() if name not in _REPLACED}
        self.__dict__.update(copy.deepcopy(state, memo))
        self._spec = spec
        self.register_buffer("bits", torch.empty(spec.bit_shape, dtype=torch.uint8, device="meta"))
        if spec.scale is None:
            self.register_buffer("scale", torch.ones((), dtype=spec.dtype, device="cpu"), persistent=False)
        else:
            self.register_buffer("scale", torch.empty(spec.scale_shape, dtype=spec.dtype, device="meta"))


class PackedLinear(PackedLayer, nn.Linear):
    """`nn.Linear` with 1-bit weights; `layer.weight` unpacks them."""

    kind = "linear"
    float_type = nn.Linear

    def compute(self, input: Tensor) -> Tensor:
        """(…, in_features) → (…, out_features), from an input that is prepared."""
        return functional.linear(input, self.weight, self.bias)


class PackedConv2d(PackedLayer, nn.Conv2d):
    """`nn.Conv2d` with 1-bit weights; `layer.weight` unpacks them."""

    kind = "conv2d"
    float_type = nn.Conv2d

    def compute(self, input: Tensor) -> Tensor:
        """(N, C_in, H, W) → (N, C_out, H_out, W_out), with or without N, from an input that is prepared."""
        return convolve(self, input, self.weight, self._spec.padding_value)


PACKED: dict[type[BinaryLayer], type[PackedLayer]] = {BinaryLinear: PackedLinear, BinaryConv2d: PackedConv2d}
"""The packed form of every binary layer."""

BY_KIND = {packed.kind: packed for packed in PACKED.values()}
"""The packed layers by what the file calls them."""


def spec_of(layer: BinaryLayer) -> LayerSpec:
    """What the packed form of a binary layer is; TypeError where there is none."""
    packed = PACKED.get(type(layer))
    if packed is None:
        raise TypeError(
            f"{type(layer).__name__} has no packed form, only {', '.join(c.__name__ for c in PACKED)} have: "
            "keep that layer float in binarize()"
        )
    return LayerSpec(
        kind=packed.kind,
        shape=tuple(layer.latent.shape),
        scale=layer.weight_quantizer.scale,
        dtype=layer.latent.dtype,
        binary_input=layer.input_quantizer is not None,
        padding_value=int(layer.padding_value) if isinstance(layer, BinaryConv2d) else 0,
        geometry=geometry_of(layer),
    )


def transplant(
    model: nn.Module, specs: Mapping[nn.Module, LayerSpec], memo: dict[int, Any]
) -> tuple[nn.Module, dict[nn.Module, PackedLayer]]:
    """A deep copy of `model` in which the layers of `specs` are packed, their tensors still to be given.

    Their packed forms stand in the memo of the copy, so that neither their weights nor their quantizers are ever
    copied, unless another module holds them too. Returns the copy and the packed form of each layer.
    """
    packed = {layer: BY_KIND[spec.kind]._blank() for layer, spec in specs.items()}
    memo |= {id(layer): form for layer, form in packed.items()}
    memo |= _computed_tensors(model)
    for name, layer in model.named_modules():
        taken = [key for key in ("bits", "scale") if hasattr(layer, key)]
        if layer in specs and taken:
            raise ValueError(f"layer {name!r} has an attribute {taken[0]!r}, which its packed form needs: rename it")
    for layer, form in packed.items():
        form._become(layer, specs[layer], memo)
    return copy.deepcopy(model, memo), packed


def _computed_tensors(model: nn.Module) -> dict[int, Tensor]:
    """Copies of tensors that modules computed and keep as attributes (weight norm does), which deepcopy refuses."""
    attributes = (value for module in model.modules() for value in vars(module).values())
    return {id(t): t.detach().clone() for t in attributes if isinstance(t, Tensor) and not t.is_leaf}
