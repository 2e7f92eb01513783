"""Which float layers of a binary network become 8-bit ones."""

from collections import Counter
from typing import Literal

from torch import nn

from proxconnect.conversion.bypass import takers
from proxconnect.deploy.packed.eight_bits import INT8, int8_spec
from proxconnect.deploy.packed.halves import Vectors, halved, is_vector
from proxconnect.deploy.packed.levels import Int8Layer, levels_of, scale_of
from proxconnect.deploy.packed.panels import PanelLayer
from proxconnect.deploy.packed.spec import LayerSpec
from proxconnect.quantizer.quantizer import FLOAT_TYPES

Remainder = Literal["float", "int8"]
"""What becomes of the linear layers, convolutions and embeddings that are not binary."""


def remaining(model: nn.Module) -> dict[nn.Module, LayerSpec]:
    """What the 8-bit forms of the float `nn.Linear`, `nn.Conv2d` and `nn.Embedding` of `model` are, by layer.

    Left out are subclasses, layers whose weight is shared or no plain parameter, those whose weight other modules are
    known to take, and embeddings with `max_norm`, which write to their weight. ValueError for a weight that has NaN or
    infinite entries, or no values yet.
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
        found[layer] = int8_spec(layer)
    return found


def give_levels(form: Int8Layer, layer: nn.Module, vectors: Vectors) -> None:
    """Fill the 8-bit form of `layer`; levels are those nearest by the scale that is shipped."""
    weight = layer._parameters["weight"]
    assert weight is not None
    scale = scale_of(weight)
    form.scale = halved(scale) if vectors == "float16" and is_vector(scale) else scale
    form.levels = levels_of(weight, form.scale)
    if isinstance(form, PanelLayer):
        form.make_panels()


def _is_plain(layer: nn.Module) -> bool:
    weight = layer._parameters.get("weight")
    if "forward" in vars(layer) or type(weight) is not nn.Parameter or getattr(layer, "max_norm", None) is not None:
        return False
    padding = getattr(layer, "padding", ())
    is_cropping = isinstance(padding, tuple) and any(size < 0 for size in padding)
    return weight.dtype in FLOAT_TYPES and weight.numel() > 0 and not is_cropping
