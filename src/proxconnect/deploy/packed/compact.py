"""Layers that hold their weight in few bits, whoever computes with it."""

import copy
from dataclasses import replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from proxconnect.deploy.packed.geometry import geometry_of
from proxconnect.deploy.packed.spec import LayerSpec
from proxconnect.layers.products import Product

_REPLACED = (
    "latent", "weight", "weight_quantizer", "input_quantizer", "accumulator", "padding_value", "channel_dims",
    "input_shift", "overflow_counts", "excesses", "_compiled_call_impl",
)  # fmt: skip


class CompactLayer(Product):
    """Mixin over a torch layer: its weight is `scale` times whole numbers; `pack` and `load` make it.

    `scale` is a float buffer with one value for each output channel, one of shape (), or a 1 that is no part of the
    state dict where the layer has no scale; its dtype is that of the layer.
    """

    kind: ClassVar[str]
    """How the file's metadata calls this layer."""
    held: ClassVar[str]
    """The name of the buffer that holds the whole numbers."""
    must_be_called: ClassVar[bool] = True
    """The forward is by kernels; `weight` is unpacked anew for whoever takes it."""

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
        """Whether the layer multiplies by the signs of its input."""
        return self._spec.binary_input

    @classmethod
    def float_class(cls, candidate: type[nn.Module]) -> type[nn.Module] | None:
        """The float layer that `candidate` is, if this form can stand for it; else None."""
        raise NotImplementedError

    @classmethod
    def float_name(cls) -> str:
        """What errors call the float layer."""
        raise NotImplementedError

    def fault(self) -> str:
        """What no packing makes of the tensors that this layer holds, "" for nothing."""
        wrong = self._spec.scale is not None and not bool(self.scale.isfinite().all())
        return "a scale is infinite or NaN" if wrong else ""

    def _numbers(self) -> Tensor:
        """The whole numbers, of the float layer's shape, in the dtype of `scale`."""
        raise NotImplementedError

    def _scale_over(self, view: Tensor) -> Tensor:
        """The scale, broadcastable over what `by_channel` returns."""
        if self._spec.scale == "tensor":
            return self.scale
        return self.scale.view([size if d in self.channel_dims else 1 for d, size in enumerate(view.shape)])

    @classmethod
    def _blank(cls) -> Self:
        return cls.__new__(cls)

    def _become(self, layer: nn.Module, spec: LayerSpec, memo: dict[int, Any]) -> None:
        """Take over all of `layer` (hooks, bias, options) but its weight and quantizers; weight and scale on meta."""
        state = {name: value for name, value in vars(layer).items() if name not in _REPLACED}
        for registry in ("_parameters", "_modules"):
            state[registry] = {name: value for name, value in state[registry].items() if name not in _REPLACED}
        self.__dict__.update(copy.deepcopy(state, memo))
        self._specify(spec)

    def _specify(self, spec: LayerSpec) -> None:
        """Be what `spec` says, with its tensors on the meta device."""
        self._spec = spec
        if spec.channel_dims is not None:
            self.channel_dims = spec.channel_dims
        self.register_buffer(self.held, torch.empty(spec.held_shape, dtype=spec.held_dtype, device="meta"))
        if spec.scale is None:
            self.register_buffer("scale", torch.ones((), dtype=spec.dtype, device="cpu"), persistent=False)
        else:
            self.register_buffer("scale", torch.empty(spec.scale_shape, dtype=spec.dtype, device="meta"))
