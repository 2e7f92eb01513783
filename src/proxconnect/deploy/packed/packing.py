"""Pack a trained binary model, layer by layer."""

from collections import Counter
from typing import Literal, get_args

import torch
from torch import nn

from proxconnect._support.arguments import require_module
from proxconnect.conversion.eligibility import takers
from proxconnect.deploy.packed.file.architecture import persistent, transplant
from proxconnect.deploy.packed.file.metadata import DTYPES, LayerSpec, geometry_of
from proxconnect.deploy.packed.half_vectors import NOTE, Vectors, halved, is_vector
from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.deploy.packed.layers.forms import INT8, spec_of
from proxconnect.deploy.packed.layers.int8 import Int8Layer, levels_of, scale_of
from proxconnect.deploy.packed.layers.one_bit import Inputs, PackedLayer, set_inputs, warn_unless_built
from proxconnect.deploy.readiness import warn_unless_ready
from proxconnect.deploy.shippable import require_finite, require_own_finite, require_unwrapped
from proxconnect.kernels.bits import pack_bits
from proxconnect.layers import BinaryLayer
from proxconnect.layers.fast_path import call_every_layer
from proxconnect.quantizer.quantizer import FLOAT_TYPES

Remainder = Literal["float", "int8"]
"""The form of the linear layers, convolutions and embeddings that are not binary."""


def pack_layers(
    model: nn.Module, *, inputs: Inputs = "exact", remainder: Remainder = "float", vectors: Vectors = "float32"
) -> nn.Module:
    """Pack a binary model as `proxconnect.pack` does, but without fused graphs: its layers run one after another."""
    require_module(model, "pack(model)")
    options = {"remainder": (remainder, Remainder), "vectors": (vectors, Vectors)}
    for name, (value, choices) in options.items():
        if value not in get_args(choices):
            raise ValueError(f"{name} must be {' or '.join(map(repr, get_args(choices)))}; got {value!r}")
    warn_unless_built()
    require_unwrapped(model, "pc.pack({})")
    layers = {name: module for name, module in model.named_modules() if isinstance(module, BinaryLayer)}
    if not layers:
        if any(isinstance(module, PackedLayer) for module in model.modules()):
            raise ValueError("the model is packed already: write it with pc.save(model, path)")
        raise ValueError("the model has no binary layer: call pc.binarize(model) and train it first")
    specs: dict[nn.Module, LayerSpec] = {
        layer: _packable(f"layer {name!r}" if name else "the model", layer) for name, layer in layers.items()
    }
    require_finite(model)
    warn_unless_ready(model, stacklevel=3)
    if remainder == "int8":
        specs |= _remaining(model)
    copy, packed = transplant(model, specs, {})
    call_every_layer(copy)
    first: dict[tuple[int, int], CompactLayer] = {}
    with torch.no_grad():
        for layer, form in packed.items():
            _fill(form, layer, vectors, first.setdefault(_source(layer), form))
        if vectors == "float16":
            for _, tensor in persistent(dict(copy.named_modules())):
                if is_vector(tensor):
                    tensor.copy_(halved(tensor))
    setattr(copy, NOTE, vectors)
    set_inputs(copy, inputs)
    return copy.eval().requires_grad_(False)


def _source(layer: nn.Module) -> tuple[int, int]:
    """Return the ids of what makes the weight of a layer: tied layers share it, or their latent and quantizer."""
    parameters = layer._parameters
    source = parameters.get("latent", parameters.get("weight"))
    return id(layer if source is None else source), id(layer._modules.get("weight_quantizer"))


def _fill(form: CompactLayer, layer: nn.Module, vectors: Vectors, twin: CompactLayer) -> None:
    """Give a blank packed layer the weight and scale of `layer`, or those of `twin` if it is another, filled layer."""
    if twin is not form:
        setattr(form, form.held, twin._held())
        form.scale = twin.scale
    elif isinstance(form, Int8Layer):
        weight = layer._parameters["weight"]
        assert weight is not None
        scale = scale_of(weight)  # levels are nearest for the scale that is stored
        form.scale = halved(scale) if vectors == "float16" and is_vector(scale) else scale
        form.levels = levels_of(weight, form.scale)
    elif isinstance(form, PackedLayer):
        assert isinstance(layer, BinaryLayer)
        latent = layer.by_channel(layer.latent)
        form.bits, hard_scale = pack_bits(latent), layer.weight_quantizer.hard_scale(latent)
        if hard_scale is None:
            form.scale = form.scale.to(layer.latent.device)
        else:  # rounding it to the layer's dtype before it multiplies signs changes nothing
            own = hard_scale.to(layer.latent.dtype, copy=True)  # a learned one is the layer's parameter
            form.scale = own.reshape(form.scale.shape)
    if isinstance(layer, BinaryLayer) and isinstance(form, PackedLayer) and form.input_shift is not None:
        assert layer.input_shift is not None
        form.input_shift.shift = nn.Parameter(layer.input_shift.shift.detach().to(layer.latent.dtype, copy=True))
    form.prepack()


def _packable(name: str, layer: BinaryLayer) -> LayerSpec:
    """Return the spec of the packed form, or raise an error that explains why there is none."""
    latent = layer._parameters.get("latent")
    if latent is None:
        raise ValueError(
            f"{name}: `latent` is no plain parameter (parametrized, weight-normed or pruned): make it one first, with "
            "torch.nn.utils.parametrize.remove_parametrizations(layer, 'latent') or prune.remove(layer, 'latent')"
        )
    try:
        spec = spec_of(layer)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None
    if type(latent.data).__name__ == "DTensor":
        raise ValueError(
            f"{name}: `latent` is sharded. Gather the state dict with torch.distributed.checkpoint.state_dict."
            "get_model_state_dict(model, options=StateDictOptions(full_state_dict=True)), load it into a new binary "
            "model, and pack that"
        )
    if latent.is_meta:
        raise ValueError(f"{name}: `latent` is on the meta device and has no values: load the checkpoint first")
    if spec.dtype not in DTYPES.values() or not spec.entries:
        raise ValueError(
            f"{name}: `latent` is {latent.dtype} of shape {spec.shape}; packed are {', '.join(DTYPES)} with at "
            "least one entry: convert it or keep the layer float"
        )
    require_own_finite(name, layer)
    if spec.geometry is not None and isinstance(spec.geometry.padding, tuple) and min(spec.geometry.padding) < 0:
        raise ValueError(
            f"{name}: its padding {spec.geometry.padding} is negative: crop the input of the layer instead"
        )
    weights, inputs = layer.weight_quantizer, layer.input_quantizer
    if weights.channel_dims != layer.channel_dims:
        raise ValueError(f"{name}: its scales run along the dimensions {weights.channel_dims} of the weight: set "
                         f"weight_quantizer.channel_dims={layer.channel_dims} to pack it")  # fmt: skip
    if inputs is not None and inputs.scale is not None:
        raise ValueError(
            f"{name}: its inputs have a scale, {inputs.scale!r}: set input_quantizer.scale=None to pack it"
        )
    scale = weights.hard_scale(layer.by_channel(layer.latent))
    if scale is not None and not bool(scale.to(layer.latent.dtype).isfinite().all()):
        raise ValueError(f"{name}: its scale is NaN, or overflows {layer.latent.dtype} as the mean of |latent|: divide "
                         "the latents by a number")  # fmt: skip
    return spec


def _remaining(model: nn.Module) -> dict[nn.Module, LayerSpec]:
    """Return the specs of the 8-bit forms of float layers that share their weights with no other kinds of modules."""
    bypassed = takers(model)
    suited = {name: layer for name, layer in model.named_modules() if layer not in bypassed and _has_8_bit_form(layer)}
    owners = Counter(id(p) for module in model.modules() for p in module._parameters.values() if p is not None)
    owners.subtract(id(layer._parameters["weight"]) for layer in suited.values())
    found = {}
    for name, layer in suited.items():
        weight = layer._parameters["weight"]
        assert weight is not None
        if owners[id(weight)]:
            continue
        if weight.is_meta or not bool(weight.isfinite().all()):
            fault = "is on the meta device" if weight.is_meta else "has NaN or infinite entries"
            raise ValueError(f"layer {name!r}: its weight {fault}, and so has no 8-bit form: load a sound checkpoint "
                             'first, or pack with remainder="float"')  # fmt: skip
        kind = INT8[type(layer)].kind
        found[layer] = LayerSpec(kind, tuple(weight.shape), dtype=weight.dtype, geometry=geometry_of(layer))
    return found


def _has_8_bit_form(layer: nn.Module) -> bool:
    """Return True if the layer is of a kind that has one, and only reads its weight, a parameter of floats."""
    if type(layer) not in INT8 or "forward" in vars(layer) or getattr(layer, "max_norm", None) is not None:
        return False
    weight, padding = layer._parameters.get("weight"), getattr(layer, "padding", ())
    if type(weight) is not nn.Parameter or weight.dtype not in FLOAT_TYPES or not weight.numel():
        return False
    is_cropping = isinstance(padding, tuple) and any(size < 0 for size in padding)
    return not is_cropping
