"""A model in numbers: bits, bytes in memory and in the packed file, multiply-adds."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from proxconnect import kernels
from proxconnect._support.arguments import require_module
from proxconnect.deploy.packed.file.metadata import LayerSpec
from proxconnect.deploy.packed.half_vectors import Vectors, as_half, vectors_of
from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.deploy.packed.layers.forms import spec_of
from proxconnect.deploy.packed.layers.int8 import Int8Product
from proxconnect.deploy.packed.layers.one_bit import PackedLayer
from proxconnect.inspection.macs import Calls, count
from proxconnect.inspection.table import LayerSummary, Summary
from proxconnect.layers import BinaryLayer

_PACKED_TENSORS = ("latent", "bits", "levels", "scale")


def summary(model: nn.Module, example: Any = None) -> Summary:
    """Summarize the layers of a float, binary or packed model: bits, bytes and multiply-adds.

    Args:
        model: stays as it was.
        example: a tensor, a tuple of positional arguments or a mapping of keyword arguments, on the model's device. The
            model runs on it once, in `eval()` and without gradients. Without it, shapes, multiply-adds and calls are
            unknown. Give a batch of one for the multiply-adds of one input.

    Example:
        >>> model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 2))
        >>> numbers = pc.summary(pc.binarize(model, "bnn++"))
        >>> numbers.parameters, numbers.binary_parameters, numbers.float_bytes, numbers.packed_bytes
        (8450, 4096, 33800, 18184)
    """
    require_module(model, "summary(model, example)")
    quantizers = {q for layer in model.modules() if isinstance(layer, BinaryLayer) for q in layer.quantizers.values()}
    names = {module: name for name, module in model.named_modules() if module not in quantizers}
    calls = None if example is None else count(model, example, (BinaryLayer, PackedLayer))
    specs = {
        module: module.spec if isinstance(module, CompactLayer)
        else spec_of(module) if isinstance(module, BinaryLayer) else None
        for module in names
    }  # fmt: skip
    sizes = _sizes(specs, vectors_of(model))
    rows = [
        _row(name, module, specs[module], sizes[module], calls)
        for module, name in names.items()
        if sizes[module].packed_bytes or (calls is not None and calls.macs[module])
    ]
    one_bit = {module: spec for module, spec in specs.items() if spec is not None and spec.weight_bits == 1}
    uncalled = one_signed = None
    if calls is not None:
        takes_input = (module for module, spec in one_bit.items() if spec.channel_dims is None)
        uncalled = tuple(names[module] for module in takes_input if module not in calls.called)
        silent = calls.called - calls.of_two_signs
        one_signed = tuple(names[module] for module, spec in one_bit.items() if spec.binary_input and module in silent)
    best = None
    if any(isinstance(module, CompactLayer) for module in names):
        best = kernels.instruction_sets()[-1] if kernels.is_built() else "not built"
    return Summary(tuple(rows), sum(spec.entries for spec in one_bit.values()), uncalled, one_signed, best)


@dataclass
class _Size:
    parameters: int = 0
    float_bytes: int = 0
    packed_bytes: int = 0


def _sizes(specs: dict[nn.Module, LayerSpec | None], vectors: Vectors) -> dict[nn.Module, _Size]:
    """Return the size of the state of each module; a shared tensor counts in the first one."""
    sizes = {module: _Size() for module in specs}
    latents = set()
    for module, size in sizes.items():
        if (spec := specs[module]) is None:
            continue
        size.packed_bytes += spec.tensor_bytes
        if isinstance(module, CompactLayer) and spec.scale is not None:
            size.packed_bytes += _stored_bytes(module.scale, vectors) - module.scale.nbytes
        latent = module._parameters.get("latent")
        if latent is None or id(latent) not in latents:
            latents.add(id(latent))
            size.parameters += spec.entries
            size.float_bytes += spec.entries * spec.dtype.itemsize
    counted: set[int] = set()
    for module, size in sizes.items():
        packed = () if specs[module] is None else _PACKED_TENSORS
        buffers = {name: b for name, b in module._buffers.items() if name not in module._non_persistent_buffers_set}
        for name, tensor in {**module._parameters, **buffers}.items():
            if tensor is None or name in packed or id(tensor) in counted:
                continue
            counted.add(id(tensor))
            size.packed_bytes += _stored_bytes(tensor, vectors)
            if id(tensor) not in latents:
                size.float_bytes += tensor.nbytes
                size.parameters += tensor.numel() if isinstance(tensor, nn.Parameter) else 0
    return sizes


def _stored_bytes(tensor: Tensor, vectors: Vectors) -> int:
    """Return the bytes of a tensor in the packed file."""
    half = None if vectors == "float32" or tensor.is_meta else as_half(tensor.detach())
    return tensor.nbytes if half is None else half.nbytes


def _row(name: str, module: nn.Module, spec: LayerSpec | None, size: _Size, calls: Calls | None) -> LayerSummary:
    bypassed = calls is not None and module not in calls.called
    binary_input = spec is not None and spec.binary_input and not bypassed
    own = next((p.dtype for p in module._parameters.values() if p is not None), None) if spec is None else spec.dtype
    input_type = own if calls is None else calls.input_types.get(module, own)
    macs = None if calls is None else calls.macs[module]
    return LayerSummary(
        name=name,
        kind=type(module).__name__,
        output_shape=None if calls is None else calls.output_shapes.get(module),
        weight_bits=_bits(own) if spec is None else spec.weight_bits,
        input_bits=1 if binary_input else 8 if isinstance(module, Int8Product) else _bits(input_type),
        parameters=size.parameters,
        float_bytes=size.float_bytes,
        packed_bytes=size.packed_bytes,
        binary_macs=None if macs is None else macs * binary_input,
        float_macs=None if macs is None else macs * (not binary_input),
    )


def _bits(dtype: torch.dtype | None) -> int | None:
    return dtype.itemsize * 8 if dtype is not None and dtype.is_floating_point else None
