"""Packed layers: 1 bit a weight plus scales, for inference."""

import copy
from dataclasses import replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from proxconnect.bits import unpack_bits
from proxconnect.layers import Accumulator, BinaryLayer
from proxconnect.layers.products import Product
from proxconnect.packed.geometry import geometry_of
from proxconnect.packed.spec import LayerSpec
from proxconnect.pairs.prox import sign

_REPLACED = (
    "latent", "weight", "weight_quantizer", "input_quantizer", "accumulator", "padding_value", "channel_dims",
    "overflow_counts", "excesses", "_compiled_call_impl",
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
    must_be_called: ClassVar[bool] = True
    """The forward is by kernels; `weight` is unpacked anew for whoever takes it."""

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
        return self.product(self.prepare_input(input), *self.weight_factors(), self.bias, *args)

    def weight_factors(self) -> tuple[Tensor, Tensor | None]:
        """The weight and None, or where the input is binary the signs and the scale by channel."""
        if not self.scales_sums:
            return self.weight, None
        return self._signs(), None if self._spec.scale is None else self.scale

    @property
    def scales_sums(self) -> bool:
        """Whether the scale multiplies sums, which are of signs alone where the input is binary."""
        return self._spec.binary_input

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
