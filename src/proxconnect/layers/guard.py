"""The guard against optimizer steps that would train hard weights.

In `eval()` and under `hard()` a layer multiplies by signs, while its gradient flows with the pair's B. A step on such a
gradient would train the pair (sign, B) instead of the pair you chose. One hook on all optimizers looks at the layers
that may be in that state; it is set when the first of them appears.
"""

import weakref
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

if TYPE_CHECKING:
    from proxconnect.layers.base import BinaryLayer

_watched: "weakref.WeakSet[BinaryLayer]" = weakref.WeakSet()
_hooks: list[Any] = []


def watch(layer: "BinaryLayer") -> None:
    """Refuse optimizer steps on the latents of `layer` for as long as it multiplies by hard weights."""
    if not _hooks:
        _hooks.append(register_optimizer_step_pre_hook(_refuse_hard_step))
    _watched.add(layer)


def _refuse_hard_step(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    hard = []
    for layer in list(_watched):
        quantizers = layer.quantizers.values()
        if any(quantizer.is_hard for quantizer in quantizers):
            hard.append(layer)
        elif layer.training and all(quantizer.override is None for quantizer in quantizers):
            _watched.discard(layer)  # neither in eval() nor inside hard()
    if not hard:
        return
    stepped = {id(p) for group in optimizer.param_groups for p in group["params"]}
    has_closure = any(callable(argument) for argument in (*args, *kwargs.values()))
    for layer in hard:
        latent = layer.latent
        if id(latent) in stepped and latent.requires_grad and (has_closure or latent.grad is not None):
            raise RuntimeError(
                f"optimizer.step() would train the latents of a {type(layer).__name__} that is in eval() or under "
                f"hard(): its forward pass is sign there, so that would train the pair (sign, B) and not "
                f"{layer.quantizers['weights'].pair.name!r}. Call model.train() and compute the gradient again; to "
                "freeze batch norm, call eval() on the batch norms alone"
            )
