"""The choice of the float layers of a binary network that become 8-bit ones."""

from collections import Counter
from typing import Literal

from torch import nn

from proxconnect.conversion.bypass import takers
from proxconnect.deploy.packed.file.layer_spec import LayerSpec, geometry_of
from proxconnect.deploy.packed.layers.forms import INT8
from proxconnect.quantizer.quantizer import FLOAT_TYPES

Remainder = Literal["float", "int8"]
"""The form of the linear layers, convolutions and embeddings that are not binary."""


def remaining(model: nn.Module) -> dict[nn.Module, LayerSpec]:
    """Return the specs of the 8-bit forms of float `nn.Linear`, `nn.Conv2d` and `nn.Embedding` layers.

    Subclasses are left out. So are layers whose weight is shared, is no plain parameter or is used by another module,
    and embeddings with `max_norm`, which write to their weight. ValueError for a weight that has NaN or infinite
    entries, or no values yet.
    """
    owners = Counter(id(p) for module in model.modules() for p in module._parameters.values() if p is not None)
    bypassed = takers(model)
    found = {}
    for name, layer in model.named_modules():
        if type(layer) not in INT8 or layer in bypassed or not _is_plain(layer):
            continue
        weight = layer._parameters["weight"]
        if weight is None or owners[id(weight)] > 1:
            continue
        if weight.is_meta or not bool(weight.isfinite().all()):
            fault = "is on the meta device" if weight.is_meta else "has NaN or infinite entries"
            raise ValueError(f"layer {name!r}: its weight {fault}, and so has no 8-bit form: load a sound checkpoint "
                             'first, or pack with remainder="float"')  # fmt: skip
        kind = INT8[type(layer)].kind
        found[layer] = LayerSpec(kind, tuple(weight.shape), dtype=weight.dtype, geometry=geometry_of(layer))
    return found


def _is_plain(layer: nn.Module) -> bool:
    weight = layer._parameters.get("weight")
    if "forward" in vars(layer) or type(weight) is not nn.Parameter or getattr(layer, "max_norm", None) is not None:
        return False
    padding = getattr(layer, "padding", ())
    is_cropping = isinstance(padding, tuple) and any(size < 0 for size in padding)
    return weight.dtype in FLOAT_TYPES and weight.numel() > 0 and not is_cropping
