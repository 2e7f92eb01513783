"""The architecture of a packed model: a float model that code built, and its copy in which layers are packed."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from proxconnect.deploy.packed.compact import CompactLayer
from proxconnect.deploy.packed.kinds import BY_KIND, PackedParameter, PackedProjection
from proxconnect.deploy.packed.metadata import Metadata
from proxconnect.deploy.packed.sameness import require_same_layer, require_same_parameter
from proxconnect.deploy.packed.spec import LayerSpec
from proxconnect.deploy.packed.transplant import transplant
from proxconnect.layers import BinaryLayer, BinaryMultiheadAttention
from proxconnect.layers.fast_path import call_every_layer
from proxconnect.layers.parameter import adopt


def require_float(model: nn.Module) -> None:
    """Refuse models that cannot be the architecture of a packed one."""
    for name, module in model.named_modules():
        if isinstance(module, BinaryLayer | CompactLayer):
            raise ValueError(
                f"{called(name)} is a {type(module).__name__} already: pass the float architecture, as it was before "
                "binarize()"
            )
        if any(is_lazy(p) for p in (*module._parameters.values(), *module._buffers.values())):
            raise ValueError(f"{called(name)} is lazy and has no shapes yet: run one batch through the model first")
        attributes = [(key, value) for key, value in vars(module).items() if isinstance(value, Tensor)]
        for key, tensor in [*attributes, *((key, module._buffers[key]) for key in module._non_persistent_buffers_set)]:
            if tensor is not None and tensor.is_meta:
                raise ValueError(
                    f"{key!r} of {called(name)} is not persistent, so no file holds it, and is on the meta device: "
                    "build the model on the CPU, or register that buffer with persistent=True before saving"
                )


def skeleton_of(model: nn.Module, metadata: Metadata) -> nn.Module:
    """A copy of the architecture with packed layers and, for all that the file holds, tensors on the meta device."""
    modules = dict(model.named_modules(remove_duplicate=False))
    specs: dict[nn.Module, LayerSpec] = {}
    raw: dict[tuple[str, str], LayerSpec] = {}
    for name, spec in metadata.layers.items():
        packed = BY_KIND.get(spec.kind)
        if packed is None:
            raise ValueError(f"layer {name!r} has the unknown type {spec.kind!r}: known are {', '.join(BY_KIND)}")
        if issubclass(packed, PackedParameter):
            raw[require_same_parameter(name, modules, spec)] = spec
            continue
        layer = modules.get(name)
        if layer is None:
            raise ValueError(f"it has a layer {name!r}, which the model lacks: pass the architecture that was packed")
        require_same_layer(name, layer, spec)
        if specs.setdefault(layer, spec) != spec:
            raise ValueError(f"layer {name!r} is shared in the model, but not in the file: pass the same architecture")
    placeholders: dict[int, Any] = {}
    for _, tensor in persistent(modules):
        blank = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
        is_parameter = isinstance(tensor, nn.Parameter)
        placeholders[id(tensor)] = nn.Parameter(blank, requires_grad=False) if is_parameter else blank
    skeleton = transplant(model, specs, placeholders)[0]
    _adopt_parameters(skeleton, raw)
    call_every_layer(skeleton)
    return skeleton


def _adopt_parameters(skeleton: nn.Module, raw: Mapping[tuple[str, str], LayerSpec]) -> None:
    """Put unfilled packed parameters in the place of float ones, by the names of owner and parameter."""
    owners = dict(skeleton.named_modules(remove_duplicate=False))
    adopted: dict[tuple[nn.Module, str], LayerSpec] = {}
    for (owner_name, name), spec in raw.items():
        owner = owners[owner_name]
        if (owner, name) not in adopted:
            packed = BY_KIND[spec.kind]
            assert issubclass(packed, PackedParameter)
            if packed is PackedProjection:
                owner.__class__ = BinaryMultiheadAttention
            adopt(owner, name, packed.unfilled(spec))
        if adopted.setdefault((owner, name), spec) != spec:
            raise ValueError(f"{name!r} of {called(owner_name)} is shared in the model, but not in the file: pass the "
                             "same architecture")  # fmt: skip


def persistent(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and persistent buffer, under every name that it has."""
    for prefix, module in modules.items():
        buffers = {k: b for k, b in module._buffers.items() if k not in module._non_persistent_buffers_set}
        for name, tensor in (module._parameters | buffers).items():
            if tensor is not None:
                yield (f"{prefix}.{name}" if prefix else name), tensor


def called(name: str) -> str:
    """How an error calls the module of that qualified name."""
    return f"module {name!r}" if name else "the model itself"
