"""The base of all packed layers: a weight of whole numbers, as 1 or 8 bits an entry, times a scale."""

import copy
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from proxconnect.deploy.packed.file.geometry import geometry_of
from proxconnect.deploy.packed.file.layer_spec import LayerSpec
from proxconnect.layers.products import Product

_REPLACED = (
    "latent", "weight", "weight_quantizer", "input_quantizer", "accumulator", "padding_value", "channel_dims",
    "input_shift", "overflow_counts", "excesses", "_compiled_call_impl",
)  # fmt: skip


class CompactLayer(Product):
    """Mixin over a torch layer whose weight is `scale` times whole numbers; `pack` and `load` make such layers.

    `scale` is a float buffer in the dtype of the layer. It has one value for each output channel, or shape (). A layer
    without a scale has a 1 there, which is in no state dict.
    """

    kind: ClassVar[str]
    """The type of this layer in the metadata of a file."""
    held: ClassVar[str]
    """The name of the buffer of whole numbers."""
    must_be_called: ClassVar[bool] = True
    """`weight` is unpacked at each access, so other code should call the layer instead of using its weight."""

    scale: Tensor
    bias: Any
    _spec: LayerSpec

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError(f"a {type(self).__name__} is made by packing: call pack(binary_model) or load(path, model)")

    @property
    def spec(self) -> LayerSpec:
        """The layer without its tensors."""
        return replace(self._spec, dtype=self.scale.dtype, geometry=geometry_of(self))

    @property
    def weight(self) -> Tensor:
        """The unpacked weight: float, with the shape of the float layer's weight and the dtype of `scale`."""
        numbers = self._numbers()
        if self._spec.scale is None:
            return numbers
        view = self.by_channel(numbers)
        return (view * self._scale_over(view)).view(numbers.shape)

    @weight.setter
    def weight(self, value: object) -> None:
        raise TypeError("the weight of a packed layer is read-only: change the binary model and pack it again")

    @property
    def has_binary_input(self) -> bool:
        """True if the layer multiplies by the signs of its input."""
        return self._spec.binary_input

    def fault(self) -> str:
        """Return a fault of the held tensors that no packing makes, or ""."""
        wrong = self._spec.scale is not None and not bool(self.scale.isfinite().all())
        return "a scale is infinite or NaN" if wrong else ""

    def prepack(self) -> None:
        """Lay the weight out for the kernels, if there are some for this layer."""

    def _numbers(self) -> Tensor:
        """Return the whole numbers with the shape of the float layer's weight, in the dtype of `scale`."""
        raise NotImplementedError

    def _scale_over(self, view: Tensor) -> Tensor:
        """Return the scale, broadcastable over a result of `by_channel`."""
        if self._spec.scale == "tensor":
            return self.scale
        return self.scale.view([size if d in self.channel_dims else 1 for d, size in enumerate(view.shape)])

    def _become(self, layer: nn.Module, spec: LayerSpec, memo: dict[int, Any]) -> None:
        """Take over the hooks, bias and options of `layer`, but not its weight and quantizers."""
        state = {name: value for name, value in vars(layer).items() if name not in _REPLACED}
        for registry in ("_parameters", "_modules"):
            state[registry] = {name: value for name, value in state[registry].items() if name not in _REPLACED}
        self.__dict__.update(copy.deepcopy(state, memo))
        self._specify(spec)

    def _specify(self, spec: LayerSpec) -> None:
        """Register the tensors of `spec`, on the meta device."""
        self._spec = spec
        if spec.channel_dims is not None:
            self.channel_dims = spec.channel_dims
        self.register_buffer(self.held, torch.empty(spec.held_shape, dtype=spec.held_dtype, device="meta"))
        if spec.scale is None:
            self.register_buffer("scale", torch.ones((), dtype=spec.dtype, device="cpu"), persistent=False)
        else:
            self.register_buffer("scale", torch.empty(spec.scale_shape, dtype=spec.dtype, device="meta"))
