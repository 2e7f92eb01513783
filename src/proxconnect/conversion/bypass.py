"""Layers that other code bypasses: it multiplies by their weight without a call, so their input stays float."""

from torch import nn

_TAKEN_BY: dict[str, tuple[str, ...]] = {
    "torchvision.models.swin_transformer.ShiftedWindowAttention": ("qkv", "proj"),
    "torchvision.models.swin_transformer.ShiftedWindowAttentionV2": ("qkv", "proj"),
}
"""The attributes of bypassed layers, by the class of the module that takes their weights."""


def takers(model: nn.Module) -> dict[nn.Module, str]:
    """Map each layer of `model` whose weight another module is known to take to the name of that module's class.

    That module multiplies by the weight without calling the layer.
    """
    found: dict[nn.Module, str] = {}
    for parent in model.modules():
        cls = _definer_of_forward(type(parent))
        for attribute in _TAKEN_BY.get(f"{cls.__module__}.{cls.__qualname__}", ()):
            child = getattr(parent, attribute, None)
            if isinstance(child, nn.Module):
                found[child] = cls.__name__
    return found


def projections_out(model: nn.Module) -> dict[nn.Module, nn.Module]:
    """Map the `out_proj` of each `nn.MultiheadAttention` to that attention.

    torch's forward only takes the weight of `out_proj`; after `call_every_layer` the attention calls it.
    """
    attentions = (m for m in model.modules() if isinstance(m, nn.MultiheadAttention))
    return {m.out_proj: m for m in attentions if _definer_of_forward(type(m)) is nn.MultiheadAttention}


def _definer_of_forward(cls: type[nn.Module]) -> type:
    return next(base for base in cls.__mro__ if "forward" in vars(base))
