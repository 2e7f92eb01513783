"""Pack a trained binary model, layer by layer."""

from typing import Any, get_args

import torch
from torch import nn

from proxconnect._support.arguments import require_module
from proxconnect.deploy.packed.file.architecture import persistent, transplant
from proxconnect.deploy.packed.file.layer_spec import DTYPES, LayerSpec
from proxconnect.deploy.packed.half_vectors import Vectors, halved, is_vector, note_vectors
from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.deploy.packed.layers.by_kernels import Inputs, set_inputs, warn_unless_built
from proxconnect.deploy.packed.layers.forms import spec_of
from proxconnect.deploy.packed.layers.int8 import Int8Layer, levels_of, scale_of
from proxconnect.deploy.packed.layers.one_bit import PackedLayer
from proxconnect.deploy.packed.remainder import Remainder, remaining
from proxconnect.deploy.shippable import require_finite, require_own_finite, require_unwrapped
from proxconnect.kernels.bits import pack_bits
from proxconnect.layers import BinaryLayer
from proxconnect.layers.fast_path import call_every_layer


def pack_layers(
    model: nn.Module, *, inputs: Inputs = "exact", remainder: Remainder = "float", vectors: Vectors = "float32"
) -> nn.Module:
    """Copy `model` with packed layers that run one after another; see `proxconnect.pack`, which also fuses them."""
    require_module(model, "pack(model)")
    _require_one_of("remainder", remainder, Remainder)
    _require_one_of("vectors", vectors, Vectors)
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
    if remainder == "int8":
        specs |= remaining(model)
    copy, packed = transplant(model, specs, {})
    call_every_layer(copy)
    with torch.no_grad():
        for layer, form in packed.items():
            _fill(form, layer, vectors)
        if vectors == "float16":
            for _, tensor in persistent(dict(copy.named_modules())):
                if is_vector(tensor):
                    tensor.copy_(halved(tensor))
    note_vectors(copy, vectors)
    set_inputs(copy, inputs)
    return copy.eval().requires_grad_(False)


def _require_one_of(name: str, value: object, choices: Any) -> None:
    if value not in get_args(choices):
        raise ValueError(f"{name} must be {' or '.join(map(repr, get_args(choices)))}; got {value!r}")


def _fill(form: CompactLayer, layer: nn.Module, vectors: Vectors) -> None:
    """Give a blank packed layer the weight and scale of `layer`."""
    if isinstance(form, Int8Layer):
        weight = layer._parameters["weight"]
        assert weight is not None
        scale = scale_of(weight)  # levels are nearest for the scale that is stored
        form.scale = halved(scale) if vectors == "float16" and is_vector(scale) else scale
        form.levels = levels_of(weight, form.scale)
    elif isinstance(form, PackedLayer):
        assert isinstance(layer, BinaryLayer)
        _fill_one_bit(form, layer)
    form.prepack()


def _fill_one_bit(form: PackedLayer, layer: BinaryLayer) -> None:
    latent = layer.by_channel(layer.latent)
    form.bits, scale = pack_bits(latent), layer.weight_quantizer.hard_scale(latent)
    if scale is None:
        form.scale = form.scale.to(layer.latent.device)
    else:  # rounding it to the layer's dtype before it multiplies signs changes nothing
        own = scale.to(layer.latent.dtype, copy=True)  # a learned one is the layer's parameter
        form.scale = own.reshape(form.scale.shape)
    if form.input_shift is not None and layer.input_shift is not None:
        form.input_shift.shift = nn.Parameter(layer.input_shift.shift.detach().to(layer.latent.dtype, copy=True))


def _packable(name: str, layer: BinaryLayer) -> LayerSpec:
    """Return the spec of the packed form, or raise an error that explains why there is none."""
    latent = layer._parameters.get("latent")
    if latent is None:
        raise ValueError(
            f"{name}: `latent` is no plain parameter (parametrized or pruned): make it one first, with "
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
    _require_plain_quantizers(name, layer)
    return spec


def _require_plain_quantizers(name: str, layer: BinaryLayer) -> None:
    weights, inputs = layer.weight_quantizer, layer.input_quantizer
    if weights.channel_dims != layer.channel_dims:
        raise ValueError(f"{name}: its scales run along the dimensions {weights.channel_dims} of the weight: set "
                         f"weight_quantizer.channel_dims={layer.channel_dims} to pack it")  # fmt: skip
    if inputs is not None and inputs.scale is not None:
        raise ValueError(f"{name}: its input_quantizer has scale={inputs.scale!r}: set scale=None to pack it")
    scale = weights.hard_scale(layer.by_channel(layer.latent))
    if scale is not None and not bool(scale.to(layer.latent.dtype).isfinite().all()):
        raise ValueError(f"{name}: its scale is NaN, or overflows {layer.latent.dtype} as the mean of |latent|: divide "
                         "the latents by a number")  # fmt: skip
