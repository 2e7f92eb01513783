"""Copies of a model with packed layers in the place of others."""

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from proxconnect.deploy.packed.file.layer_spec import LayerSpec
from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.deploy.packed.layers.forms import BY_KIND


def transplant(
    model: nn.Module, specs: Mapping[nn.Module, LayerSpec], memo: dict[int, Any]
) -> tuple[nn.Module, dict[nn.Module, CompactLayer]]:
    """Deep-copy `model` with blank packed layers in the place of the layers of `specs`.

    The packed layers enter the memo of the copy first. So their float weights and quantizers are not copied, unless
    another module holds them too.

    Returns:
        the copy, and the packed form of each layer, with weight and scale on the meta device.
    """
    forms = {layer: BY_KIND[spec.kind] for layer, spec in specs.items()}
    packed = {layer: form.__new__(form) for layer, form in forms.items()}
    memo |= {id(layer): form for layer, form in packed.items()}
    memo |= _computed_tensors(model)
    for name, layer in model.named_modules():
        taken = [key for key in ("bits", "levels", "scale", "prepacked") if hasattr(layer, key)]
        if layer in specs and taken:
            raise ValueError(f"layer {name!r} has an attribute {taken[0]!r}, which its packed form needs: rename it")
    for layer, form in packed.items():
        form._become(layer, specs[layer], memo)
    return copy.deepcopy(model, memo), packed


def _computed_tensors(model: nn.Module) -> dict[int, Tensor]:
    """Copy the tensors that modules computed and keep as attributes (weight norm does), which deepcopy refuses."""
    attributes = (value for module in model.modules() for value in vars(module).values())
    return {id(t): t.detach().clone() for t in attributes if isinstance(t, Tensor) and not t.is_leaf}
