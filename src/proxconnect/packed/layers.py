"""Packed layers: 1 bit a weight plus scales, for inference."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from proxconnect.layers import Accumulator, BinaryLayer, attention, conv, linear, parameter, transposed_conv
from proxconnect.layers.products import (
    ConvProduct,
    LinearProduct,
    Product,
    ProjectionProduct,
    TransposedConvProduct,
    TransposedLinearProduct,
)
from proxconnect.packed.bits import unpack_bits
from proxconnect.packed.geometry import geometry_of
from proxconnect.packed.spec import LayerSpec
from proxconnect.pairs.prox import sign

_REPLACED = (
    "latent", "weight", "weight_quantizer", "input_quantizer", "accumulator", "padding_value", "channel_dims",
    "overflow_counts", "_compiled_call_impl",
)  # fmt: skip


class PackedLayer(Product):
    """Mixin over a torch layer: its weight is `scale`·±1, the signs held as `bits`; `pack` and `load` make it.

    `bits` is uint8 of shape (⌈n/8⌉,), laid out as `pack_bits` does. `scale` is a float buffer with one value for each
    output channel, one of shape (), or a 1 that is no part of the state dict where the layer has no scale; its dtype is
    that of the layer.
    """

    kind: ClassVar[str]
    """How the file's metadata calls this layer."""
    binary_type: ClassVar[type[BinaryLayer]]
    """The binary layer that this one is the packed form of."""

    bits: Tensor
    scale: Tensor
    bias: Any
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
        signs = self._signs()
        if self._spec.scale is None:
            return signs
        view = self.by_channel(signs)
        return (view * self._scale_over(view)).view(signs.shape)

    @weight.setter
    def weight(self, value: object) -> None:
        raise TypeError("the weight of a packed layer is read-only: change the binary model and pack it again")

    @property
    def accumulator(self) -> Accumulator | None:  # type: ignore[override]  # it is read-only here
        """What holds the sums; None for one that never overflows."""
        return self._spec.accumulator

    @property
    def has_binary_input(self) -> bool:
        """Whether the layer multiplies by the signs of its input."""
        return self._spec.binary_input

    def forward(self, input: Tensor, *args: Any) -> Tensor:
        """What the binary layer answers under `hard()`, to the bit."""
        return self.compute(self.prepare_input(input), *args)

    def compute(self, input: Tensor, *args: Any) -> Tensor:
        """The layer's product with an input that is prepared."""
        return self.product(input, *self.weight_factors(), self.bias, *args)

    def weight_factors(self) -> tuple[Tensor, Tensor | None]:
        """The weight and None, or where there is an accumulator the signs and the scale by channel."""
        if self.accumulator is None:
            return self.weight, None
        return self._signs(), None if self._spec.scale is None else self.scale

    def prepare_input(self, input: Tensor) -> Tensor:
        """The input as the layer multiplies it: its signs where activations are binary."""
        return sign(input, 1.0) if self._spec.binary_input else input

    def extra_repr(self) -> str:
        """The float layer's, and what is packed."""
        shown = [super().extra_repr(), f"packed, scale={self._spec.scale}"]
        shown += ["binary input"] * self._spec.binary_input
        shown += [] if self.accumulator is None else [f"accumulator={self.accumulator}"]
        return ", ".join(filter(None, shown))

    def _signs(self) -> Tensor:
        return unpack_bits(self.bits, self._spec.shape, self.scale.dtype)

    def _scale_over(self, view: Tensor) -> Tensor:
        """The scale, broadcastable over what `by_channel` returns."""
        if self._spec.scale == "tensor":
            return self.scale
        return self.scale.view([size if d in self.channel_dims else 1 for d, size in enumerate(view.shape)])

    @classmethod
    def _blank(cls) -> Self:
        return cls.__new__(cls)

    def _become(self, layer: nn.Module, spec: LayerSpec, memo: dict[int, Any]) -> None:
        """Take over all of `layer` (hooks, bias, options) but its weight and quantizers; `bits` and `scale` on meta."""
        state = {name: value for name, value in vars(layer).items() if name not in _REPLACED}
        for registry in ("_parameters", "_modules"):
            state[registry] = {name: value for name, value in state[registry].items() if name not in _REPLACED}
        self.__dict__.update(copy.deepcopy(state, memo))
        self._specify(spec)

    def _specify(self, spec: LayerSpec) -> None:
        """Be what `spec` says, with `bits` and `scale` on the meta device."""
        self._spec = spec
        if spec.channel_dims is not None:
            self.channel_dims = spec.channel_dims
        self.register_buffer("bits", torch.empty(spec.bit_shape, dtype=torch.uint8, device="meta"))
        if spec.scale is None:
            self.register_buffer("scale", torch.ones((), dtype=spec.dtype, device="cpu"), persistent=False)
        else:
            self.register_buffer("scale", torch.empty(spec.scale_shape, dtype=spec.dtype, device="meta"))


class PackedLinear(PackedLayer, LinearProduct, nn.Linear):
    """`nn.Linear` with 1-bit weights; `layer.weight` unpacks them."""

    kind = "linear"
    binary_type = linear.BinaryLinear


class PackedTransposedLinear(PackedLayer, TransposedLinearProduct):
    """transformers' `Conv1D` with 1-bit weights; `layer.weight` unpacks them."""

    kind = "transposed_linear"
    binary_type = linear.BinaryTransposedLinear


class _PackedConv(PackedLayer, ConvProduct):
    """What packed convolutions share."""

    @property
    def padding_value(self) -> int:  # type: ignore[override]  # it is read-only here
        """What `padding_mode="zeros"` fills the border with."""
        return self._spec.padding_value


class PackedConv1d(_PackedConv, nn.Conv1d):
    """`nn.Conv1d` with 1-bit weights; `layer.weight` unpacks them."""

    kind = "conv1d"
    binary_type = conv.BinaryConv1d


class PackedConv2d(_PackedConv, nn.Conv2d):
    """`nn.Conv2d` with 1-bit weights; `layer.weight` unpacks them."""

    kind = "conv2d"
    binary_type = conv.BinaryConv2d


class PackedConv3d(_PackedConv, nn.Conv3d):
    """`nn.Conv3d` with 1-bit weights; `layer.weight` unpacks them."""

    kind = "conv3d"
    binary_type = conv.BinaryConv3d


class PackedConvTranspose1d(PackedLayer, TransposedConvProduct, nn.ConvTranspose1d):
    """`nn.ConvTranspose1d` with 1-bit weights; `layer.weight` unpacks them."""

    kind = "conv_transpose1d"
    binary_type = transposed_conv.BinaryConvTranspose1d


class PackedConvTranspose2d(PackedLayer, TransposedConvProduct, nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` with 1-bit weights; `layer.weight` unpacks them."""

    kind = "conv_transpose2d"
    binary_type = transposed_conv.BinaryConvTranspose2d


class PackedConvTranspose3d(PackedLayer, TransposedConvProduct, nn.ConvTranspose3d):
    """`nn.ConvTranspose3d` with 1-bit weights; `layer.weight` unpacks them."""

    kind = "conv_transpose3d"
    binary_type = transposed_conv.BinaryConvTranspose3d


class PackedParameter(PackedLayer):
    """A parameter of another module as bits; that module finds it unpacked under its name."""

    kind = "parameter"
    binary_type: ClassVar[type[BinaryLayer]] = parameter.BinaryParameter

    @classmethod
    def unfilled(cls, spec: LayerSpec) -> Self:
        """One whose `bits` and `scale` are on the meta device."""
        packed = cls._blank()
        nn.Module.__init__(packed)
        packed._specify(spec)
        return packed

    def forward(self) -> Tensor:  # type: ignore[override]  # it has no input
        """The weight."""
        return self.weight


class PackedProjection(PackedParameter, ProjectionProduct):
    """An in-projection of attention with 1-bit weights."""

    kind = "projection"
    binary_type = attention.BinaryProjection

    def forward(self, *inputs: Tensor, bias: Tensor | None = None) -> tuple[Tensor, ...]:  # type: ignore[override]
        """(…, in) → (…, out/n) for each of the n inputs."""
        return self.project(tuple(map(self.prepare_input, inputs)), *self.weight_factors(), bias)


_FORMS: tuple[type[PackedLayer], ...] = (
    PackedLinear, PackedTransposedLinear, PackedConv1d, PackedConv2d, PackedConv3d, PackedConvTranspose1d,
    PackedConvTranspose2d, PackedConvTranspose3d, PackedParameter, PackedProjection,
)  # fmt: skip

PACKED = {packed.binary_type: packed for packed in _FORMS}
"""The packed form of every binary layer."""

BY_KIND = {packed.kind: packed for packed in _FORMS}
"""The packed layers by what the file calls them."""


def spec_of(layer: BinaryLayer) -> LayerSpec:
    """What the packed form of a binary layer is; TypeError where there is none."""
    packed = PACKED.get(_own_class(layer))
    if packed is None:
        raise TypeError(
            f"{type(layer).__name__} has no packed form, only {', '.join(c.__name__ for c in PACKED)} have: "
            "keep that layer float in binarize()"
        )
    return LayerSpec(
        kind=packed.kind,
        shape=tuple(layer.latent.shape),
        scale="channel" if layer.weight_quantizer.scale == "learned" else layer.weight_quantizer.scale,
        dtype=layer.latent.dtype,
        binary_input=layer.has_binary_input,
        accumulator=layer.accumulator,
        padding_value=int(layer.padding_value) if isinstance(layer, ConvProduct) else 0,
        geometry=geometry_of(layer),
        channel_dims=layer.channel_dims if packed is PackedParameter else None,
    )


def _own_class(layer: nn.Module) -> type[Any]:
    """The class of a layer, without the subclass that FSDP2 makes of it."""
    cls = type(layer)
    return cls.__mro__[2] if cls.__mro__[1].__name__ == "FSDPModule" else cls


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
