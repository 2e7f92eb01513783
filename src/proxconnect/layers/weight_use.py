"""Uses of `layer.weight`, a computed tensor, that would be lost or would overwrite the latent."""

import sys
import warnings
from weakref import finalize

from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

_FUNCTIONAL_CALL = "torch.nn.utils._named_member_accessor"

_RESIZE = "resize the token embeddings of the float network, and binarize that"
_REPLACERS = {
    ("torch.nn.utils.weight_norm", "apply"): "call weight_norm(layer, 'latent')",
    ("peft.tuners.lora.layer", "merge"): "an adapter cannot be merged into ±α: keep it beside the layer, or merge it "
    "into the float network and binarize that",
    ("transformers.modeling_utils", "_get_resized_embeddings"): _RESIZE,
    ("transformers.modeling_utils", "_get_resized_lm_head"): _RESIZE,
}
"""Functions, by module and name, that read a weight to put another in its place, and what to do instead."""


def notice_use(weight: Tensor, layer: object) -> None:
    """Warn, when `weight`, which `layer.weight` returns, is freed, if it was written to in place before.

    TypeError if one of the `_REPLACERS` reads it. Call it in the property. The initialisation of transformers is quiet.
    """
    reader = sys._getframe(2)
    module, name = reader.f_globals.get("__name__", ""), reader.f_code.co_name
    if advice := _REPLACERS.get((module, name)):
        raise TypeError(f"{type(layer).__name__}.weight is computed from the parameter `latent`: {advice}")
    if name == "_init_weights" and module.startswith("transformers."):
        return  # from_pretrained initialises every weight, and then loads the latents
    if type(weight) is Tensor and not weight.is_inference() and not is_functorch_wrapped_tensor(weight):
        alias = weight.detach()  # it has the same version, and keeps no memory that `weight` would free
        finalize(weight, _warn_of_write, alias, alias._version, type(layer).__name__).atexit = False


def refuse_functional_call(layer: object) -> None:
    """Raise ValueError in the setter of `layer.weight` if `functional_call` sets it; it would overwrite the latent."""
    if sys._getframe(3).f_globals.get("__name__") == _FUNCTIONAL_CALL:  # setattr of nn.Module is between
        raise ValueError(
            f"{type(layer).__name__}.weight is computed from the parameter `latent`: pass functional_call the tensor "
            "under the name `latent`"
        )


def _warn_of_write(alias: Tensor, version: int, kind: str) -> None:
    if alias._version != version:
        warnings.warn(
            f"an in-place write to {kind}.weight is lost, because it is computed from `latent`: write to layer.latent, "
            "or assign layer.weight = tensor; to compute with a copy, take layer.weight.clone()",
            stacklevel=3,
        )
