"""The binary layers that are alive, and a check of the loaded states of optimizers that step them."""

import warnings
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

if TYPE_CHECKING:
    from proxconnect.layers.base import BinaryLayer

SCHEDULES: dict[str, tuple[str, ...]] = {
    "sharpening_weights": ("weights",),
    "sharpening_activations": ("activations",),
    "sharpening_both": ("weights", "activations"),
}
"""The parts whose μ a schedule moves, by the key of `optimizer.param_groups[0]` that holds its step count."""

RULE = "update_rule"
"""The key of `optimizer.param_groups[0]` that holds the name of an update rule."""

LIVING: "WeakSet[BinaryLayer]" = WeakSet()
"""All binary layers that are alive. They know their latents; marks on parameters would be lost in copies and shards."""

_checked: WeakSet[Optimizer] = WeakSet()
_hooks: list[Any] = []


def enlist(layer: "BinaryLayer") -> None:
    """Add a layer to `LIVING`. From the first call on, steps of optimizers check a loaded schedule or update rule."""
    LIVING.add(layer)
    if not _hooks:
        _hooks.append(register_optimizer_step_pre_hook(_require_attachments))


def _require_attachments(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise for a loaded state of an update rule, and warn for one of a schedule, if nothing has made it again."""
    if torch.compiler.is_compiling():
        return
    group: dict[str, Any] = next(iter(optimizer.param_groups), {})
    keys = [key for key in SCHEDULES if key in group]
    if not (keys or RULE in group) or optimizer in _checked:
        return
    stepped = {id(parameter) for held in optimizer.param_groups for parameter in held["params"]}
    layers = [layer for layer in list(LIVING) if id(layer._parameters.get("latent")) in stepped]
    if RULE in group and layers and not any(layer.weight_quantizer.ruled for layer in layers):
        raise RuntimeError(
            f"the state of this {type(optimizer).__name__} was made by {group[RULE]}, and this step would go by PC++: "
            f"call proxconnect.{group[RULE]}(optimizer, model) first, or delete optimizer.param_groups[0][{RULE!r}]"
        )
    for key in keys:
        quantizers = [q for layer in layers for part, q in layer.quantizers.items() if part in SCHEDULES[key]]
        movable = [quantizer for quantizer in quantizers if quantizer.sharpness is not None]
        if movable and not any(quantizer.scheduled for quantizer in movable):
            warnings.warn(
                f"the state of this {type(optimizer).__name__} counts {group[key]} steps of a Sharpening that was not "
                "made again, so nothing moves μ: call proxconnect.Sharpening(optimizer, model, ...) with the arguments "
                f"of the earlier run, or delete optimizer.param_groups[0][{key!r}] to keep μ as it is",
                stacklevel=3,
            )
    _checked.add(optimizer)
