"""The packed file: one safetensors file that holds the whole packed network, but for its architecture."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils import swap_tensors

from proxconnect.arguments import require_module
from proxconnect.atomic import replacing
from proxconnect.layers import BinaryLayer, BinaryMultiheadAttention
from proxconnect.layers.attention import FUSED, SEPARATE
from proxconnect.layers.fast_path import call_every_layer
from proxconnect.layers.parameter import SUFFIX, adopt
from proxconnect.packed import container
from proxconnect.packed.bits import pad_is_zero
from proxconnect.packed.geometry import geometry_of
from proxconnect.packed.layers import BY_KIND, PackedLayer, PackedParameter, PackedProjection, transplant
from proxconnect.packed.metadata import KEY, Metadata
from proxconnect.packed.spec import LayerSpec
from proxconnect.packed.wrappers import require_unwrapped


class PackedFileError(ValueError):
    """A file that is no packed model, or not one of this architecture; the message names the file and the fault."""


def save(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a packed model to a safetensors file, whole or not at all; the layout is in docs/file-format.md.

    The file holds every parameter and every persistent buffer; tensors under two names are stored once. ValueError for
    a model that is not packed, that is wrapped or that keeps state which is no tensor, TypeError for a dtype that no
    file can hold, OSError where `path` cannot be written.
    """
    require_module(model, "save(model, path)")
    require_unwrapped(model, "pc.save({}, path)")
    modules = dict(model.named_modules(remove_duplicate=False))
    specs = {name: module.spec for name, module in modules.items() if isinstance(module, PackedLayer)}
    unpacked = [name for name, module in modules.items() if isinstance(module, BinaryLayer)]
    if unpacked:
        raise ValueError(f"the model is not packed (binary are {_some(unpacked)}): call pc.save(pc.pack(model), path)")
    if not specs:
        raise ValueError("the model has no packed layer: binarize and train it, then pc.save(pc.pack(model), path)")
    stored, aliases = _stored_once(modules)
    with replacing(path) as temporary:
        container.write(temporary, stored, {KEY: Metadata(specs, aliases).to_json()})


def load(path: str | os.PathLike[str], float_model: nn.Module) -> nn.Module:
    """The packed model that `save` wrote: a new module in `eval()` on the CPU, with the architecture of `float_model`.

    `float_model` stays as it is and may be on the meta device: none of its parameters is ever copied. Buffers that are
    not persistent are, so they must have values. PackedFileError for a damaged, foreign or newer file and for a model
    of another architecture, OSError for a file that cannot be read.
    """
    require_module(float_model, "load(path, float_model)")
    try:
        _require_float(float_model)
        with container.open_checked(Path(path)) as file:
            metadata = _metadata(file)
            skeleton = _skeleton(float_model, metadata)
            _fill(skeleton, file, metadata)
    except ValueError as fault:
        raise PackedFileError(f"cannot load {os.fspath(path)}: {fault}") from fault
    return skeleton.cpu().eval().requires_grad_(False)


def _persistent(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and persistent buffer, under every name that it has."""
    for prefix, module in modules.items():
        buffers = {k: b for k, b in module._buffers.items() if k not in module._non_persistent_buffers_set}
        for name, tensor in (module._parameters | buffers).items():
            if tensor is not None:
                yield (f"{prefix}.{name}" if prefix else name), tensor


def _stored_once(modules: Mapping[str, nn.Module]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors to store, in main memory, and the names that equal one of theirs."""
    for name, module in modules.items():
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            raise ValueError(
                f"{_module(name)} keeps extra state, which a file of tensors cannot hold: remove it before packing"
            )
    first: dict[int, str] = {}
    stored, aliases = {}, {}
    for name, tensor in _persistent(modules):
        if tensor.is_meta:
            raise ValueError(f"tensor {name!r} is on the meta device and has no values: load them first")
        if tensor.dtype not in container.CODES:
            raise TypeError(
                f"tensor {name!r} is {tensor.dtype}, which no file holds: register it with persistent=False"
            )
        if first.setdefault(id(tensor), name) == name:
            stored[name] = tensor.detach().cpu()
        else:
            aliases[name] = first[id(tensor)]
    return stored, aliases


def _require_float(model: nn.Module) -> None:
    """Refuse models that cannot be the architecture of a packed one."""
    for name, module in model.named_modules():
        if isinstance(module, BinaryLayer | PackedLayer):
            raise ValueError(
                f"{_module(name)} is a {type(module).__name__} already: pass the float architecture, as it was before "
                "binarize()"
            )
        if any(is_lazy(p) for p in (*module._parameters.values(), *module._buffers.values())):
            raise ValueError(f"{_module(name)} is lazy and has no shapes yet: run one batch through the model first")
        attributes = [(key, value) for key, value in vars(module).items() if isinstance(value, Tensor)]
        for key, tensor in [*attributes, *((key, module._buffers[key]) for key in module._non_persistent_buffers_set)]:
            if tensor is not None and tensor.is_meta:
                raise ValueError(
                    f"{key!r} of {_module(name)} is not persistent, so no file holds it, and is on the meta device: "
                    "build the model on the CPU, or register that buffer with persistent=True before saving"
                )


def _metadata(file: Any) -> Metadata:
    text = (file.metadata() or {}).get(KEY)
    if text is None:
        raise ValueError("it is a safetensors file, but no packed model: save one with pc.save(pc.pack(model), path)")
    return Metadata.from_json(text)


def _skeleton(model: nn.Module, metadata: Metadata) -> nn.Module:
    """A copy of the architecture with packed layers and, for all that the file holds, tensors on the meta device."""
    modules = dict(model.named_modules(remove_duplicate=False))
    specs: dict[nn.Module, LayerSpec] = {}
    raw: dict[tuple[str, str], LayerSpec] = {}
    for name, spec in metadata.layers.items():
        packed = BY_KIND.get(spec.kind)
        if packed is None:
            raise ValueError(f"layer {name!r} has the unknown type {spec.kind!r}: known are {', '.join(BY_KIND)}")
        if issubclass(packed, PackedParameter):
            raw[_require_same_parameter(name, modules, spec)] = spec
            continue
        layer = modules.get(name)
        if layer is None:
            raise ValueError(f"it has a layer {name!r}, which the model lacks: pass the architecture that was packed")
        _require_same_layer(name, layer, spec)
        if specs.setdefault(layer, spec) != spec:
            raise ValueError(f"layer {name!r} is shared in the model, but not in the file: pass the same architecture")
    placeholders: dict[int, Any] = {}
    for _, tensor in _persistent(modules):
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
            raise ValueError(f"{name!r} of {_module(owner_name)} is shared in the model, but not in the file: pass the "
                             "same architecture")  # fmt: skip


def _require_same_layer(name: str, layer: nn.Module, spec: LayerSpec) -> None:
    """Refuse a layer that is not of the type, shape, dtype and geometry that was packed."""
    binary = BY_KIND[spec.kind].binary_type
    if binary.float_class(type(layer)) is None:
        raise ValueError(
            f"layer {name!r} is a {binary.float_name()} in the file, but a {type(layer).__name__} in the model: "
            "pass the architecture that was packed"
        )
    weight = layer._parameters.get("weight")
    if weight is None:
        raise ValueError(f"the weight of layer {name!r} is no plain parameter: remove its parametrization or pruning")
    _require_same_weight(name, weight, spec)
    _require_same_geometry(name, layer, spec)
    pads = spec.binary_input and spec.geometry is not None and spec.geometry.padding_mode == "zeros"
    if spec.padding_value and not (pads and spec.geometry is not None and spec.geometry.output_padding is None):
        raise ValueError(f"layer {name!r} cannot pad with {spec.padding_value}: only a convolution of binary inputs "
                         "that pads with zeros can; pass the architecture that was packed")  # fmt: skip
    if spec.channel_dims is not None:
        raise ValueError(f"layer {name!r} has channel_dims, but is a {spec.kind}: the file is damaged")


def _require_same_parameter(name: str, modules: Mapping[str, nn.Module], spec: LayerSpec) -> tuple[str, str]:
    """The names of the owner and of its parameter, after a refusal of ones that are not what was packed."""
    owner_name, _, parameter_name = name.removesuffix(SUFFIX).rpartition(".")
    owner = modules.get(owner_name)
    parameter = None if owner is None else owner._parameters.get(parameter_name)
    is_projection = spec.kind == PackedProjection.kind
    if not name.endswith(SUFFIX) or owner is None or parameter is None:
        raise ValueError(f"it has a parameter {name!r}, which the model lacks: pass the architecture that was packed")
    if is_projection and not (type(owner) is nn.MultiheadAttention and parameter_name in (*FUSED, *SEPARATE)):
        raise ValueError(f"{name!r} is a projection in the file, but no in-projection of an nn.MultiheadAttention in "
                         "the model: pass the architecture that was packed")  # fmt: skip
    _require_same_weight(name, parameter, spec)
    if spec.geometry is not None or spec.padding_value or (spec.channel_dims is None) != is_projection:
        raise ValueError(f"{name!r} must have channel_dims as a parameter or none as a projection, no geometry and no "
                         "padding: the file is damaged")  # fmt: skip
    if spec.binary_input and not is_projection:
        raise ValueError(f"{name!r} is a parameter and has no input that could be binary: the file is damaged")
    return owner_name, parameter_name


def _require_same_weight(name: str, weight: Tensor, spec: LayerSpec) -> None:
    if tuple(weight.shape) != spec.shape:
        raise ValueError(
            f"layer {name!r} has a weight of shape {spec.shape} in the file, but {tuple(weight.shape)} in the model: "
            "pass the architecture that was packed"
        )
    if weight.dtype != spec.dtype:
        raise ValueError(f"layer {name!r} is {spec.dtype} in the file, but {weight.dtype} in the model: pass "
                         f"model.to({spec.dtype})")  # fmt: skip


def _require_same_geometry(name: str, layer: nn.Module, spec: LayerSpec) -> None:
    geometry = geometry_of(layer)
    if geometry is None or spec.geometry is None:
        if geometry is not spec.geometry:
            has = "has no geometry" if spec.geometry is None else "has a geometry"
            raise ValueError(f"layer {name!r} {has} in the file, but is a {spec.kind}: the file is damaged")
        return
    for key, inside, outside in spec.geometry.differences(geometry):
        raise ValueError(f"layer {name!r} has {key} {inside!r} in the file, but {outside!r} in the model: pass the "
                         "architecture that was packed")  # fmt: skip


def _fill(skeleton: nn.Module, file: Any, metadata: Metadata) -> None:
    """Give the skeleton the tensors of the file, after all their names, shapes and dtypes were checked."""
    modules = dict(skeleton.named_modules(remove_duplicate=False))
    expected = dict(_persistent(modules))
    _require_same_names(expected, set(file.keys()), metadata.aliases)
    source = {name: metadata.aliases.get(name, name) for name in expected}
    places: dict[int, str] = {}
    for name, tensor in expected.items():
        if places.setdefault(id(tensor), source[name]) != source[name]:
            raise ValueError(f"{places[id(tensor)]!r} and {name!r} are one tensor in the model, but two in the file: "
                             "pass the architecture that was packed")  # fmt: skip
        _require_same_tensor(name, tensor, file.get_slice(source[name]))
    loaded = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    for name, module in modules.items():
        if isinstance(module, PackedLayer):
            _require_valid(name, module, loaded, source)
    blanks = {id(tensor): (tensor, source[name]) for name, tensor in expected.items()}
    for blank, stored in blanks.values():
        values = loaded[stored]
        # Swapping the contents reaches every holder of a tied tensor; detach() lets aliases share their memory.
        is_parameter = isinstance(blank, nn.Parameter)
        full = nn.Parameter(values, requires_grad=False) if is_parameter else values.detach()
        swap_tensors(blank, full)


def _require_same_names(expected: Iterable[str], stored: set[str], aliases: Mapping[str, str]) -> None:
    for name, target in aliases.items():
        if name in stored or target not in stored:
            raise ValueError(f"its alias {name!r} of {target!r} is not one name for a stored tensor: it is damaged")
    held, wanted = stored | set(aliases), set(expected)
    faults = [f"it lacks {_some(wanted - held)}"] if wanted - held else []
    faults += [f"it has {_some(held - wanted)}, which the model lacks"] if held - wanted else []
    if faults:
        raise ValueError(f"{', and '.join(faults)}: pass the architecture that was packed")


def _require_same_tensor(name: str, tensor: Tensor, stored: Any) -> None:
    inside = (stored.get_dtype(), tuple(stored.get_shape()))
    outside = (container.CODES.get(tensor.dtype, str(tensor.dtype)), tuple(tensor.shape))
    if inside != outside:
        raise ValueError(f"tensor {name!r} is {inside[0]} of shape {inside[1]} in the file, but must be {outside[0]} "
                         f"of shape {outside[1]} for this model: pass the architecture that was packed")  # fmt: skip


def _require_valid(prefix: str, layer: PackedLayer, loaded: Mapping[str, Tensor], source: Mapping[str, str]) -> None:
    """Refuse bits after the last weight and scales that no packing makes."""
    bits, scale = (f"{prefix}.{name}" if prefix else name for name in ("bits", "scale"))
    if not pad_is_zero(loaded[source[bits]], layer.spec.entries):
        raise ValueError(f"the bits after the last weight of layer {prefix!r} are not 0: it is damaged")
    if scale in source and not bool(loaded[source[scale]].isfinite().all()):
        raise ValueError(f"a scale of layer {prefix!r} is infinite or NaN: it is damaged")


def _module(name: str) -> str:
    return f"module {name!r}" if name else "the model itself"


def _some(names: Iterable[str]) -> str:
    """A few names, and how many more there are."""
    ordered = sorted(names)
    more = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""
    return ", ".join(map(repr, ordered[:3])) + more
