"""Whether a layer of a float model is the one that was packed."""

from collections.abc import Mapping

from torch import Tensor, nn

from proxconnect.deploy.packed.geometry import geometry_of
from proxconnect.deploy.packed.kinds import BY_KIND, PackedProjection
from proxconnect.deploy.packed.spec import LayerSpec
from proxconnect.layers.attention import JOINT, SEPARATE
from proxconnect.layers.parameter import SUFFIX


def require_same_layer(name: str, layer: nn.Module, spec: LayerSpec) -> None:
    """Refuse a layer that is not of the type, shape, dtype and geometry that was packed."""
    packed = BY_KIND[spec.kind]
    if packed.float_class(type(layer)) is None:
        raise ValueError(
            f"layer {name!r} is a {packed.float_name()} in the file, but a {type(layer).__name__} in the model: "
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
    if spec.weight_bits == 8 and (spec.scale != "channel" or spec.binary_input):
        raise ValueError(f"layer {name!r} has 8-bit weights, but no scale for each output or a binary input: the file "
                         "is damaged")  # fmt: skip
    if spec.weight_bits == 8 and getattr(layer, "max_norm", None) is not None:
        raise ValueError(f"layer {name!r} has 8-bit weights in the file and a max_norm in the model, which writes to "
                         "its weight: pass the architecture that was packed")  # fmt: skip
    if spec.channel_dims is not None:
        raise ValueError(f"layer {name!r} has channel_dims, but is a {spec.kind}: the file is damaged")


def require_same_parameter(name: str, modules: Mapping[str, nn.Module], spec: LayerSpec) -> tuple[str, str]:
    """The names of the owner and of its parameter, after a refusal of ones that are not what was packed."""
    owner_name, _, parameter_name = name.removesuffix(SUFFIX).rpartition(".")
    owner = modules.get(owner_name)
    parameter = None if owner is None else owner._parameters.get(parameter_name)
    is_projection = spec.kind == PackedProjection.kind
    if not name.endswith(SUFFIX) or owner is None or parameter is None:
        raise ValueError(f"it has a parameter {name!r}, which the model lacks: pass the architecture that was packed")
    if is_projection and not (type(owner) is nn.MultiheadAttention and parameter_name in (*JOINT, *SEPARATE)):
        raise ValueError(f"{name!r} is a projection in the file, but no in-projection of an nn.MultiheadAttention in "
                         "the model: pass the architecture that was packed")  # fmt: skip
    _require_same_weight(name, parameter, spec)
    has_none_of = spec.geometry is None and not spec.padding_value and not spec.input_shift
    if not has_none_of or (spec.channel_dims is None) != is_projection:
        raise ValueError(f"{name!r} must have channel_dims as a parameter or none as a projection, no geometry, no "
                         "padding and no input_shift: the file is damaged")  # fmt: skip
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
