"""Whether what is not binary in a graph is computed by torch or by our kernels, which round otherwise."""

from typing import Literal, get_args

from torch import nn

from proxconnect.deploy.packed import PackedLayer

Floats = Literal["torch", "fast"]
"""What computes floats in graphs: torch, or kernels where there are some, about as exactly."""


def are_fast(model: nn.Module, floats: Floats | None) -> bool:
    """Whether kernels compute the floats of a packed model; ValueError unless it is one of `Floats`, or None.

    None is for where no sign turns by it: in models without binary inputs.
    """
    if floats not in (None, *get_args(Floats)):
        raise ValueError(f"floats must be 'torch' or 'fast'; got {floats!r}")
    layers = (module for module in model.modules() if isinstance(module, PackedLayer))
    return floats == "fast" or (floats is None and not any(layer.has_binary_input for layer in layers))
