"""Portable programs of packed models: torch's operators and two of ours, `signs` and `unpacked`, for other runtimes."""

import copy
import inspect
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional
from torch.utils._pytree import tree_map, tree_map_only

from proxconnect._support.arguments import boolean, require_module
from proxconnect._support.example import arguments, run
from proxconnect.deploy.fusion.graph_modules import layer_by_layer
from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.deploy.packed.layers.forms import PackedEmbedding
from proxconnect.deploy.packed.layers.one_bit import PackedLayer
from proxconnect.kernels.bits import unpack_bits
from proxconnect.pairs.prox import sign


class ExportError(ValueError):
    """The error of an export that the model does not allow; the message says why."""


@torch.library.custom_op("proxconnect::signs", mutates_args=())
def signs(input: Tensor) -> Tensor:
    """Return a tensor like `input` with +1 for entries of at least 0, and -1 for those below."""
    return sign(input, 1.0)


@signs.register_fake
def _(input: Tensor) -> Tensor:
    return torch.empty_like(input)


@torch.library.custom_op("proxconnect::unpacked", mutates_args=())
def unpacked(bits: Tensor, scale: Tensor | None, shape: list[int]) -> Tensor:
    """Return ±1 in float32 from the bits of `pack_bits`, in `shape`; with a `scale`, ±1 times it, in its dtype."""
    return unpack_bits(bits, shape) if scale is None else unpack_bits(bits, shape, scale.dtype) * scale


@unpacked.register_fake
def _(bits: Tensor, scale: Tensor | None, shape: list[int]) -> Tensor:
    return torch.empty(shape, dtype=torch.float32 if scale is None else scale.dtype, device=bits.device)


def portable_program(packed: nn.Module, example: Any, *, any_batch: bool) -> ExportedProgram:
    """Trace a packed model, which does not change, to torch's operators and ours; arguments are those of `to_onnx`."""
    require_module(packed, "an export, such as to_onnx(packed, example, path),")
    any_batch = boolean(any_batch, "any_batch")
    if not any(isinstance(module, PackedLayer) for module in packed.modules()):
        raise ValueError("the model is not packed: export pc.pack(model)")
    with layer_by_layer(packed):
        run(packed, example)  # a wrong example fails here, with the model's own message
        model = copy.deepcopy(packed)
    for module in model.modules():
        if isinstance(module, CompactLayer):
            module.prepacked = None  # torch then computes the layer
        if isinstance(module, PackedLayer):
            form: Any = type(module)
            mixin = _RowsBySigns if isinstance(module, PackedEmbedding) else _BySigns
            module.__class__ = type(form.__name__, (mixin, form), {})
    if any_batch:  # torch.export would take a batch of 1 for a constant
        example = tree_map_only(Tensor, lambda t: torch.cat([t, t]) if t.dim() and t.shape[0] == 1 else t, example)
    args, kwargs = arguments(model, example)
    run(packed, example)  # raises the model's own error, with a note about the example
    sizes = None
    if any_batch:
        bound = inspect.signature(model.forward).bind(*args, **kwargs).arguments
        sizes = tree_map(lambda v: {0: Dim.DYNAMIC} if isinstance(v, Tensor) and v.dim() else None, dict(bound))
    try:
        with torch.no_grad():
            return torch.export.export(model, args, kwargs, dynamic_shapes=sizes, strict=False)
    except Exception as error:  # the code of the model may raise anything when it is traced
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        batch = "; for batches of the example's size alone, pass any_batch=False" if any_batch else ""
        raise ExportError(
            f"torch.export makes no graph of {type(packed).__name__}: {reason} (a forward must not decide by the "
            f"values of tensors{batch})"
        ) from error


class _BySigns(PackedLayer):
    @property  # type: ignore[misc]  # no setter is needed here
    def weight(self) -> Tensor:
        shape = self._spec.shape
        view = self.by_channel(torch.empty(shape, device="meta"))
        scale = None if self._spec.scale is None else self._scale_over(view)
        weight = cast("Tensor", unpacked(self.bits, scale, list(view.shape))).to(self.scale.dtype)
        return weight.view(shape)

    def prepare_input(self, input: Tensor) -> Tensor:
        return cast("Tensor", signs(input)) if self.has_binary_input else input

    def _numbers(self) -> Tensor:
        return cast("Tensor", unpacked(self.bits, None, list(self._spec.shape))).to(self.scale.dtype)


class _RowsBySigns(_BySigns):
    def forward(self, input: Tensor, *args: Any) -> Tensor:
        return functional.embedding(input, self.weight)
