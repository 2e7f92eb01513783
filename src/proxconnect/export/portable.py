"""Packed models as other runtimes see them: operators of torch, and two of ours that each format writes in its way."""

import copy
import functools
from typing import Any, cast

import torch
from torch import Tensor, nn

from proxconnect._support.arguments import require_module
from proxconnect.deploy.fusion.graph_modules import layer_by_layer
from proxconnect.deploy.packed.compact import CompactLayer
from proxconnect.deploy.packed.layers import PackedLayer
from proxconnect.deploy.packed.panels import PanelLayer
from proxconnect.kernels.bits import unpack_bits
from proxconnect.pairs.prox import sign


@torch.library.custom_op("proxconnect::signs", mutates_args=())
def signs(input: Tensor) -> Tensor:
    """+1 where the input is at least 0, -1 below."""
    return sign(input, 1.0)


@signs.register_fake
def _(input: Tensor) -> Tensor:
    return torch.empty_like(input)


@torch.library.custom_op("proxconnect::unpacked", mutates_args=())
def unpacked(bits: Tensor, scale: Tensor | None, shape: list[int]) -> Tensor:
    """The ±1 of `shape` that `pack_bits` packed, float32, or times a scale that is broadcastable over them."""
    return unpack_bits(bits, shape) if scale is None else unpack_bits(bits, shape, scale.dtype) * scale


@unpacked.register_fake
def _(bits: Tensor, scale: Tensor | None, shape: list[int]) -> Tensor:
    return torch.empty(shape, dtype=torch.float32 if scale is None else scale.dtype, device=bits.device)


def signs_of_bytes() -> Tensor:
    """int8 (256, 8): the signs that each byte holds."""
    return unpack_bits(torch.arange(256, dtype=torch.uint8), (256, 8), torch.int8)


def portable(model: nn.Module) -> nn.Module:
    """A copy of a packed model that computes by torch and these two operators alone, layer by layer.

    ValueError for a model that is not packed.
    """
    require_module(model, "export of a packed model")
    if not any(isinstance(module, PackedLayer) for module in model.modules()):
        raise ValueError("the model is not packed: export pc.pack(model)")
    with layer_by_layer(model):
        twin = copy.deepcopy(model)
    for module in twin.modules():
        if isinstance(module, CompactLayer):
            form: Any = type(module)
            module.__class__ = _portable_class(form)
    return twin


@functools.cache
def _portable_class(form: Any) -> Any:
    bases: list[type[CompactLayer]] = [_WithoutKernels] if issubclass(form, PanelLayer) else []
    bases += [_BySigns] if issubclass(form, PackedLayer) else []
    return type(form.__name__, (*bases, form), {})


class _WithoutKernels(PanelLayer):
    def kernels_can(self, input: Tensor, bias: Tensor | None) -> bool:
        return False


class _BySigns(PackedLayer):
    @property  # type: ignore[misc]  # nobody writes to this one
    def weight(self) -> Tensor:
        """As of a packed layer."""
        shape = self._spec.shape
        view = self.by_channel(torch.empty(shape, device="meta"))
        scale = None if self._spec.scale is None else self._scale_over(view)
        weight = cast("Tensor", unpacked(self.bits, scale, list(view.shape))).to(self.scale.dtype)
        return weight.view(shape)

    def prepare_input(self, input: Tensor) -> Tensor:
        return cast("Tensor", signs(input)) if self.has_binary_input else input

    def _numbers(self) -> Tensor:
        return cast("Tensor", unpacked(self.bits, None, list(self._spec.shape))).to(self.scale.dtype)
