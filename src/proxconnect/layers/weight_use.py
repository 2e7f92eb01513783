"""Uses of `layer.weight`, a computed tensor, that would be lost or would overwrite the latent."""

import sys
import warnings
from weakref import finalize

import torch
from torch import Tensor

_FUNCTIONAL_CALL, _WEIGHT_NORM = "torch.nn.utils._named_member_accessor", "torch.nn.utils.weight_norm"


def notice_use(weight: Tensor, layer: object) -> None:
    """Warn once `weight`, which `layer.weight` returns, is freed, if it was written to in place since.

    TypeError if torch's `weight_norm` reads it, to replace the parameter that is not there. Call it in the property.
    """
    if sys._getframe(2).f_globals.get("__name__") == _WEIGHT_NORM:
        raise TypeError(_no_parameter(layer, "weight_norm(layer, 'latent')"))
    if (
        type(weight) is Tensor
        and not weight.is_inference()
        and not torch._C._functorch.is_functorch_wrapped_tensor(weight)
    ):
        alias = weight.detach()  # it has the same version, and keeps no memory that `weight` would free
        finalize(weight, _warn_of_write, alias, alias._version, type(layer).__name__).atexit = False


def refuse_functional_call(layer: object) -> None:
    """Raise ValueError in the setter of `layer.weight` if `functional_call` sets it; it would overwrite the latent."""
    if sys._getframe(3).f_globals.get("__name__") == _FUNCTIONAL_CALL:  # setattr of nn.Module is between
        raise ValueError(_no_parameter(layer, "functional_call(model, {'layer.latent': tensor}, inputs)"))


def _no_parameter(layer: object, call: str) -> str:
    return f"{type(layer).__name__}.weight is computed from the parameter `latent`: name that, as {call} does"


def _warn_of_write(alias: Tensor, version: int, kind: str) -> None:
    if alias._version != version:
        warnings.warn(
            f"an in-place write to {kind}.weight is lost, because it is computed from `latent`: write to layer.latent, "
            "or assign layer.weight = tensor; to compute with a copy, take layer.weight.clone()",
            stacklevel=3,
        )
