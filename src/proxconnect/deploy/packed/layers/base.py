"""The base of all packed layers: a weight of whole numbers, as 1 or 8 bits an entry, times a scale."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from proxconnect import kernels
from proxconnect.deploy.packed.file.metadata import LayerSpec, geometry_of
from proxconnect.layers.products import Product, RowProduct

_INPUT_DTYPES = (torch.float32, torch.bfloat16, torch.float16)  # the kernels compute in float32
_REPLACED = (
    "latent", "weight", "weight_quantizer", "input_quantizer", "accumulator", "padding_value", "channel_dims",
    "group_size", "input_shift", "overflow_counts", "excesses", "_compiled_call_impl",
)  # fmt: skip


class CompactLayer(Product):
    """Mixin over a torch layer whose weight is `scale` times whole numbers; `pack` and `load` make such layers.

    `scale` is a float buffer with one value for each output channel, or group of its inputs, or of shape (). A layer
    without a scale has a 1 there, which is in no state dict. `prepacked`, in no state dict either, holds the weight
    once more, laid out for the kernels, or None if torch computes the layer.
    """

    kind: ClassVar[str]
    """The type of this layer in the metadata of a file."""
    held: ClassVar[str]
    """The name of the buffer of whole numbers."""
    must_be_called: ClassVar[bool] = True
    """True, because `weight` is unpacked at each access: other code should call the layer instead of using it."""

    scale: Tensor
    bias: Any
    prepacked: Tensor | None
    _made: tuple[Tensor | None, Tensor, int | None]
    """The prepacked weight, the tensor that it was made from, and the version of that tensor then."""
    _spec: LayerSpec

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError(f"a {type(self).__name__} is made by packing: call pack(binary_model) or load(path, model)")

    @property
    def spec(self) -> LayerSpec:
        """The description of the layer, without its tensors, for the metadata of a file."""
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
        """Return in words what is wrong with the loaded tensors, such as an infinite scale, or "" if nothing is."""
        wrong = self._spec.scale is not None and not bool(self.scale.isfinite().all())
        return "a scale is infinite or NaN" if wrong else ""

    def prepack(self) -> None:
        """Set `prepacked` to the weight in the layout of the kernels, or to None if torch must compute the layer."""
        held = self._held()
        self.prepacked = self._prepacked() if self._has_kernels(held.device) else None
        self._made = self.prepacked, held, version_of(held)

    def prepack_if_changed(self) -> None:
        """Call `prepack` if the weight has changed since it was last prepacked, except in a functorch transform."""
        prepacked, source, version = self._made
        has_changed = self.prepacked is not prepacked or self._held() is not source or version_of(source) != version
        if has_changed and not torch._C._are_functorch_transforms_active():
            self.prepack()

    def kernels_can(self, input: Tensor, bias: Tensor | None) -> bool:
        """Return True if the kernels can compute the layer's output for this input, and prepack a changed weight.

        They take tensors in float32, bfloat16 or float16, on the device of the prepacked weight, if neither the input
        nor `bias` needs a gradient now.
        """
        if forward_ad._current_level >= 0 or not isinstance(input, Tensor):  # tangents do not show in requires_grad
            return False
        prepacked = self.prepacked
        if prepacked is None or input.device != prepacked.device or input.dtype not in _INPUT_DTYPES:
            return False
        if not torch.compiler.is_compiling():
            self.prepack_if_changed()
        return not torch.is_grad_enabled() or not (input.requires_grad or (bias is not None and bias.requires_grad))

    def kernel_scale(self) -> Tensor | None:
        """Return the scale for the kernels, in float32 on the CPU; None for a layer without one."""
        return None if self._spec.scale is None else for_kernels(self.scale)

    def kernel_bias(self) -> Tensor | None:
        """Return the bias of a linear or convolution layer for the kernels, in float32 on the CPU; None if none."""
        return None if self.bias is None else for_kernels(self.bias)

    def _has_kernels(self, device: torch.device) -> bool:
        """Return True if kernels for this kind of layer can run on a device: here, those for CPUs."""
        return device.type == "cpu" and kernels.is_built()

    def _prepacked(self) -> Tensor | None:
        """Lay the weight out, or return None if no kernel can compute this layer."""
        return None

    def _held(self) -> Tensor:
        held = self._buffers[self.held]
        assert held is not None
        return held

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
        if spec.group_size is not None and isinstance(self, RowProduct):
            self.divide(spec.group_size)
        self.register_buffer("prepacked", None, persistent=False)
        dtype = torch.int8 if spec.weight_bits == 8 else torch.uint8
        self.register_buffer(self.held, torch.empty(spec.held_shape, dtype=dtype, device="meta"))
        if spec.scale is None:
            self.register_buffer("scale", torch.ones((), dtype=spec.dtype, device="cpu"), persistent=False)
        else:
            self.register_buffer("scale", torch.empty(spec.scale_shape, dtype=spec.dtype, device="meta"))

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.prepack()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = self._held().device
        super()._apply(fn, recurse)
        if self._held().device != before:  # each device has kernels for other layers
            self.prepack()
        return self


def for_kernels(values: Tensor) -> Tensor:
    """Return floats in a dtype that kernels take: float32 on the CPU, and any that they compute in elsewhere."""
    return values.float() if values.is_cpu else values


def version_of(tensor: Tensor) -> int | None:
    """Return the count of in-place changes, or None for an inference tensor, which has no count."""
    return None if tensor.is_inference() else tensor._version
