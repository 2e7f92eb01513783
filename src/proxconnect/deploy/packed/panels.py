"""Weights laid out for the kernels, beside those that a file holds."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor
from torch.autograd import forward_ad

from proxconnect import kernels
from proxconnect.deploy.packed.compact import CompactLayer
from proxconnect.deploy.packed.spec import LayerSpec

INPUT_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""The dtypes of an input that the kernels compute with, in float32."""


class PanelLayer(CompactLayer):
    """Mixin over a compact layer: `panels` holds its weight as the kernels read it, or None where torch computes.

    `panels` is made of what the layer holds, anew when that changes (a compiled or exported graph, or a vmap, does not
    look whether it did), and is in no state dict.
    """

    panels: Tensor | None
    _made: tuple[Tensor | None, Tensor, int | None]
    """The panels, what they show, and its version then."""

    def make_panels(self) -> None:
        """Lay the weight out for the kernels, where these were built, are for its device and can compute it."""
        held = self._held()
        self.panels = self._panels() if held.device.type == "cpu" and kernels.is_built() else None
        self._made = self.panels, held, _version(held)

    def follow(self) -> None:
        """Make the panels anew where what the layer holds has changed."""
        if self._is_stale():
            self.make_panels()

    def kernels_can(self, input: Tensor, bias: Tensor | None) -> bool:
        """Whether the kernels can compute the product with this input: without derivatives, which they do not have."""
        if forward_ad._current_level >= 0:  # a tangent does not show in requires_grad
            return False
        if not isinstance(input, Tensor):  # which torch refuses
            return False
        if self.panels is None or input.device.type != "cpu" or input.dtype not in INPUT_DTYPES:
            return False
        if not torch.compiler.is_compiling():
            self.follow()
        return not torch.is_grad_enabled() or not (input.requires_grad or (bias is not None and bias.requires_grad))

    def kernel_scale(self) -> Tensor | None:
        """The scale as the kernels take it."""
        return None if self._spec.scale is None else self.scale.float()

    def kernel_bias(self) -> Tensor | None:
        """The bias as the kernels take it."""
        return None if self.bias is None else self.bias.float()

    def _panels(self) -> Tensor | None:
        raise NotImplementedError

    def _held(self) -> Tensor:
        held = self._buffers[self.held]
        assert held is not None
        return held

    def _is_stale(self) -> bool:
        panels, shown, version = self._made
        has_changed = self.panels is not panels or self._held() is not shown or _version(shown) != version
        return has_changed and not torch._C._are_functorch_transforms_active()

    def _specify(self, spec: LayerSpec) -> None:
        super()._specify(spec)
        self.register_buffer("panels", None, persistent=False)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.make_panels()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        if (self.panels is None) == (self._held().device.type == "cpu"):  # they are for the CPU alone
            self.make_panels()
        return self


def _version(tensor: Tensor) -> int | None:
    """What counts in-place changes; None where nothing does."""
    return None if tensor.is_inference() else tensor._version
