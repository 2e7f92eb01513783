"""Copies of a model in which layers are packed."""

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from proxconnect.deploy.packed.compact import CompactLayer
from proxconnect.deploy.packed.kinds import BY_KIND
from proxconnect.deploy.packed.spec import LayerSpec


def transplant(
    model: nn.Module, specs: Mapping[nn.Module, LayerSpec], memo: dict[int, Any]
) -> tuple[nn.Module, dict[nn.Module, CompactLayer]]:
    """A deep copy of `model` in which the layers of `specs` are packed, their tensors still to be given.

    Their packed forms stand in the memo of the copy, so that neither their weights nor their quantizers are ever
    copied, unless another module holds them too. Returns the copy and the packed form of each layer.
    """
    packed = {layer: BY_KIND[spec.kind]._blank() for layer, spec in specs.items()}
    memo |= {id(layer): form for layer, form in packed.items()}
    memo |= _computed_tensors(model)
    for name, layer in model.named_modules():
        taken = [key for key in ("bits", "levels", "scale", "panels") if hasattr(layer, key)]
        if layer in specs and taken:
            raise ValueError(f"layer {name!r} has an attribute {taken[0]!r}, which its packed form needs: rename it")
    for layer, form in packed.items():
        form._become(layer, specs[layer], memo)
    return copy.deepcopy(model, memo), packed


def _computed_tensors(model: nn.Module) -> dict[int, Tensor]:
    """Copies of tensors that modules computed and keep as attributes (weight norm does), which deepcopy refuses."""
    attributes = (value for module in model.modules() for value in vars(module).values())
    return {id(t): t.detach().clone() for t in attributes if isinstance(t, Tensor) and not t.is_leaf}
