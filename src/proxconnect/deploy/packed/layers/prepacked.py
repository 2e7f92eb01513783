"""Prepacked weights: the weight of a packed layer once more, laid out for the kernels."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor
from torch.autograd import forward_ad

from proxconnect import kernels
from proxconnect.deploy.packed.file.layer_spec import LayerSpec
from proxconnect.deploy.packed.layers.base import CompactLayer

INPUT_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""The input dtypes of the kernels, which compute in float32."""


class PrepackedLayer(CompactLayer):
    """Mixin over a compact layer that has kernels: `prepacked` holds its weight for them, or None if torch computes.

    `prepacked` is in no state dict. It is made again when the weight changes, except inside a compiled or exported
    graph or a vmap.
    """

    prepacked: Tensor | None
    _made: tuple[Tensor | None, Tensor, int | None]
    """The prepacked weight, the tensor that it was made from, and the version of that tensor then."""

    def prepack(self) -> None:
        """Lay the weight out for the kernels, if they are built, run on its device and can compute the layer."""
        held = self._held()
        self.prepacked = self._prepacked() if held.device.type == "cpu" and kernels.is_built() else None
        self._made = self.prepacked, held, _version(held)

    def prepack_if_changed(self) -> None:
        """Prepack the weight again if it has changed."""
        prepacked, source, version = self._made
        has_changed = self.prepacked is not prepacked or self._held() is not source or _version(source) != version
        if has_changed and not torch._C._are_functorch_transforms_active():
            self.prepack()

    def kernels_can(self, input: Tensor, bias: Tensor | None) -> bool:
        """Return True if the kernels can compute the product with this input; they compute no derivatives."""
        if forward_ad._current_level >= 0:  # a tangent does not show in requires_grad
            return False
        if not isinstance(input, Tensor):  # torch refuses it
            return False
        if self.prepacked is None or input.device.type != "cpu" or input.dtype not in INPUT_DTYPES:
            return False
        if not torch.compiler.is_compiling():
            self.prepack_if_changed()
        return not torch.is_grad_enabled() or not (input.requires_grad or (bias is not None and bias.requires_grad))

    def kernel_scale(self) -> Tensor | None:
        """Return the scale in float32, for the kernels."""
        return None if self._spec.scale is None else self.scale.float()

    def kernel_bias(self) -> Tensor | None:
        """Return the bias in float32, for the kernels."""
        return None if self.bias is None else self.bias.float()

    def _prepacked(self) -> Tensor | None:
        """Lay the weight out, or return None if no kernel can compute this layer."""
        raise NotImplementedError

    def _held(self) -> Tensor:
        held = self._buffers[self.held]
        assert held is not None
        return held

    def _specify(self, spec: LayerSpec) -> None:
        super()._specify(spec)
        self.register_buffer("prepacked", None, persistent=False)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.prepack()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        if (self.prepacked is None) == (self._held().device.type == "cpu"):  # the kernels run on the CPU alone
            self.prepack()
        return self


def _version(tensor: Tensor) -> int | None:
    """Return the count of in-place changes, or None for an inference tensor, which has no count."""
    return None if tensor.is_inference() else tensor._version
