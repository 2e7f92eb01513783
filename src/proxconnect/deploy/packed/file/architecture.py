"""The architecture of a packed file: the float model that must match it, and its copy with blank packed layers."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from proxconnect._support.text import with_article
from proxconnect.deploy.packed.file.metadata import LayerSpec, Metadata, geometry_of
from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.deploy.packed.layers.forms import BY_KIND, PackedParameter, PackedProjection
from proxconnect.deploy.packed.layers.int8 import Int8Layer
from proxconnect.layers import BinaryLayer, BinaryMultiheadAttention
from proxconnect.layers.added_names import with_added_names
from proxconnect.layers.attention import JOINT, SEPARATE
from proxconnect.layers.fast_path import call_every_layer
from proxconnect.layers.parameter import SUFFIX, adopt

PASS = "pass the architecture that was packed"
"""The advice for a file that does not match the model."""

_DAMAGED = "the file is damaged"


def require_float(model: nn.Module) -> None:
    """Raise ValueError, which names the module, for a binary, packed or lazy layer or an unsaved meta tensor."""
    for name, module in model.named_modules():
        if isinstance(module, BinaryLayer | CompactLayer):
            raise ValueError(
                f"{display_name(name)} is {with_article(type(module).__name__)} already: pass the float "
                "architecture, as it was before binarize()"
            )
        if any(is_lazy(p) for p in (*module._parameters.values(), *module._buffers.values())):
            raise ValueError(
                f"{display_name(name)} is lazy and has no shapes yet: run one batch through the model first"
            )
        attributes = [(key, value) for key, value in vars(module).items() if isinstance(value, Tensor)]
        for key, tensor in [*attributes, *((key, module._buffers[key]) for key in module._non_persistent_buffers_set)]:
            if tensor is not None and tensor.is_meta:
                raise ValueError(
                    f"{key!r} of {display_name(name)} is not persistent, so no file holds it, and is on the meta "
                    "device: build the model on the CPU, or register that buffer with persistent=True before saving"
                )


def skeleton_of(model: nn.Module, metadata: Metadata) -> nn.Module:
    """Copy a float network with blank packed layers in the place of those that a file has packed.

    All parameters and persistent buffers of the copy are on the meta device, until the file's tensors replace them.
    ValueError if the packed layers do not fit those of `model`, such as by kind, shape, dtype or options.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    specs: dict[nn.Module, LayerSpec] = {}
    raw: dict[tuple[str, str], tuple[type[PackedParameter], LayerSpec]] = {}
    for name, spec in metadata.layers.items():
        packed = BY_KIND.get(spec.kind)
        if packed is None:
            raise ValueError(f"layer {name!r} has the unknown type {spec.kind!r}: known are {', '.join(BY_KIND)}")
        if issubclass(packed, PackedParameter):
            raw[_same_parameter(name, modules, spec)] = packed, spec
            continue
        layer = modules.get(name)
        if layer is None:
            raise ValueError(f"it has a layer {name!r}, which the model lacks: {PASS}")
        _require_same_layer(name, layer, spec)
        if specs.setdefault(layer, spec) != spec:
            raise ValueError(f"layer {name!r} is shared in the model, but not in the file: {PASS}")
    placeholders: dict[int, Any] = {}
    for _, tensor in persistent(modules):
        blank = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
        is_parameter = isinstance(tensor, nn.Parameter)
        placeholders[id(tensor)] = nn.Parameter(blank, requires_grad=False) if is_parameter else blank
    skeleton = transplant(model, specs, placeholders)[0]
    owners = dict(skeleton.named_modules(remove_duplicate=False))
    _share(owners, metadata.aliases)
    adopted: dict[tuple[nn.Module, str], LayerSpec] = {}
    for (owner_name, name), (form, spec) in raw.items():
        owner = owners[owner_name]
        if (owner, name) not in adopted:
            if form is PackedProjection:
                owner.__class__ = BinaryMultiheadAttention
            blank_parameter = form.__new__(form)
            nn.Module.__init__(blank_parameter)
            blank_parameter._specify(spec)
            adopt(owner, name, blank_parameter)
        if adopted.setdefault((owner, name), spec) != spec:
            raise ValueError(f"{name!r} of {display_name(owner_name)} is shared in the model, but not in the file: "
                             "pass the same architecture")  # fmt: skip
    call_every_layer(skeleton)
    return skeleton


def transplant(
    model: nn.Module, specs: Mapping[nn.Module, LayerSpec], memo: dict[int, Any]
) -> tuple[nn.Module, dict[nn.Module, CompactLayer]]:
    """Deep-copy a model with blank packed layers; return the copy, and these layers by those that they replace.

    `specs` describes them by the layers of `model` that they replace. Their packed tensors are on the meta device.
    `memo` holds replacements of other objects by the id of the original, and is changed, as by `copy.deepcopy`.
    ValueError if a layer to replace has an attribute with the name of a packed tensor.
    """
    forms = {layer: with_added_names(BY_KIND[spec.kind], type(layer)) for layer, spec in specs.items()}
    packed = {layer: form.__new__(form) for layer, form in forms.items()}
    memo |= {id(layer): form for layer, form in packed.items()}  # so their float weights are not copied
    # Tensors that modules computed and keep as attributes (weight norm does), which deepcopy refuses.
    attributes = (value for module in model.modules() for value in vars(module).values())
    memo |= {id(t): t.detach().clone() for t in attributes if isinstance(t, Tensor) and not t.is_leaf}
    for name, layer in model.named_modules():
        taken = [key for key in ("bits", "levels", "scale", "prepacked") if hasattr(layer, key)]
        if layer in specs and taken:
            raise ValueError(f"layer {name!r} has an attribute {taken[0]!r}, which its packed form needs: rename it")
    for layer, form in packed.items():
        form._become(layer, specs[layer], memo)
    return copy.deepcopy(model, memo), packed


def _share(modules: Mapping[str, nn.Module], aliases: Mapping[str, str]) -> None:
    """Let packed layers share the tensors that the file holds once, as a head and an embedding that are tied do."""
    for name, target in aliases.items():
        (owner, _, part), (other, _, other_part) = name.rpartition("."), target.rpartition(".")
        sharing, held = modules.get(owner), modules.get(other)
        if not isinstance(sharing, CompactLayer) or not isinstance(held, CompactLayer) or sharing is held:
            continue
        mine, theirs = sharing._buffers.get(part), held._buffers.get(other_part)
        if mine is not None and theirs is not None and (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype):
            sharing._buffers[part] = theirs


def persistent(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, Tensor]]:
    """Yield the qualified names and tensors of the own parameters and persistent buffers of `modules`, given by name.

    A tensor comes once for each of its names. Those of children come only if the children are in the mapping.
    """
    for prefix, module in modules.items():
        for name, tensor in (module._parameters | module._buffers).items():
            if tensor is not None and name not in module._non_persistent_buffers_set:
                yield (f"{prefix}.{name}" if prefix else name), tensor


def display_name(name: str) -> str:
    """Return what errors call the module of a qualified name: "module 'features.0'", or "the model itself" for ""."""
    return f"module {name!r}" if name else "the model itself"


def _require_same_layer(name: str, layer: nn.Module, spec: LayerSpec) -> None:
    packed: Any = BY_KIND[spec.kind]
    is_int8 = issubclass(packed, Int8Layer)
    is_same = type(layer) is packed.float_type if is_int8 else packed.binary_type.float_class(type(layer)) is not None
    if not is_same:
        float_name = packed.float_type.__name__ if is_int8 else packed.binary_type.float_name()
        found = with_article(type(layer).__name__)
        raise ValueError(f"layer {name!r} is {with_article(float_name)} in the file, but {found} in the model: {PASS}")
    weight = layer._parameters.get("weight")
    if weight is None:
        raise ValueError(f"the weight of layer {name!r} is no plain parameter: remove its parametrization or pruning")
    _require_same_weight(name, weight, spec)
    geometry, outside = spec.geometry, geometry_of(layer)
    if (geometry is None) != (outside is None):
        has = "has no geometry" if geometry is None else "has a geometry"
        raise ValueError(f"layer {name!r} {has} in the file, but is {with_article(spec.kind)}: {_DAMAGED}")
    if geometry is not None and outside is not None:
        theirs = asdict(outside)
        for key, value in asdict(geometry).items():
            if value != theirs[key]:
                raise ValueError(
                    f"layer {name!r} has {key} {value!r} in the file, but {theirs[key]!r} in the model: {PASS}"
                )
    pads = geometry is not None and geometry.padding_mode == "zeros" and geometry.output_padding is None
    if spec.padding_value and not (spec.binary_input and pads):
        raise ValueError(f"layer {name!r} cannot pad with {spec.padding_value}: only a convolution of binary inputs "
                         f"that pads with zeros can; {PASS}")  # fmt: skip
    if is_int8 and (spec.scale != "channel" or spec.binary_input):
        raise ValueError(f"layer {name!r} has 8-bit weights, but no scale for each output or a binary input: "
                         f"{_DAMAGED}")  # fmt: skip
    if getattr(layer, "max_norm", None) is not None:
        raise ValueError(f"layer {name!r} has packed weights in the file and a max_norm in the model, which writes to "
                         f"its weight: {PASS}")  # fmt: skip
    if isinstance(layer, nn.Embedding) and spec.binary_input:
        raise ValueError(f"layer {name!r} has a binary input in the file, but is an embedding: {_DAMAGED}")
    if spec.channel_dims is not None:
        raise ValueError(f"layer {name!r} has channel_dims, but is {with_article(spec.kind)}: {_DAMAGED}")


def _same_parameter(name: str, modules: Mapping[str, nn.Module], spec: LayerSpec) -> tuple[str, str]:
    """Return the names of the owner and of its parameter; ValueError unless it is the one that was packed."""
    owner_name, _, parameter_name = name.removesuffix(SUFFIX).rpartition(".")
    owner = modules.get(owner_name)
    parameter = None if owner is None else owner._parameters.get(parameter_name)
    is_projection = spec.kind == PackedProjection.kind
    if not name.endswith(SUFFIX) or owner is None or parameter is None:
        raise ValueError(f"it has a parameter {name!r}, which the model lacks: {PASS}")
    if is_projection and not (type(owner) is nn.MultiheadAttention and parameter_name in (*JOINT, *SEPARATE)):
        raise ValueError(f"{name!r} is a projection in the file, but no in-projection of an nn.MultiheadAttention in "
                         f"the model: {PASS}")  # fmt: skip
    _require_same_weight(name, parameter, spec)
    has_none_of = spec.geometry is None and not spec.padding_value and not spec.input_shift
    if not has_none_of or (spec.channel_dims is None) != is_projection:
        raise ValueError(f"{name!r} must have channel_dims as a parameter or none as a projection, no geometry, no "
                         f"padding and no input_shift: {_DAMAGED}")  # fmt: skip
    if spec.binary_input and not is_projection:
        raise ValueError(f"{name!r} is a parameter and has no input that could be binary: {_DAMAGED}")
    return owner_name, parameter_name


def _require_same_weight(name: str, weight: Tensor, spec: LayerSpec) -> None:
    if tuple(weight.shape) != spec.shape:
        raise ValueError(
            f"layer {name!r} has a weight of shape {spec.shape} in the file, but {tuple(weight.shape)} in the model: "
            f"{PASS}"
        )
    if weight.dtype != spec.dtype:
        raise ValueError(f"layer {name!r} is {spec.dtype} in the file, but {weight.dtype} in the model: pass "
                         f"model.to({spec.dtype})")  # fmt: skip
