"""Learned scales and thresholds that were made after the optimizer, which does not hold them: a warning at a step."""

import warnings
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from proxconnect._support.text import some

if TYPE_CHECKING:
    from proxconnect.layers.base import BinaryLayer

_STEPS = 3
"""The step of an optimizer that judges: optimizers that take turns have all made a step by then."""

_expecting: "WeakSet[BinaryLayer]" = WeakSet()
_stepped: "WeakKeyDictionary[Optimizer, int]" = WeakKeyDictionary()
_hooks: list[Any] = []


def expect_in_optimizer(layer: "BinaryLayer") -> None:
    """Warn at an optimizer's third step if it holds the latent of `layer`, but none its learned scale or thresholds."""
    if not _own(layer):
        return
    if not _hooks:
        _hooks.append(register_optimizer_step_pre_hook(_warn))
    _stepped.clear()
    _expecting.add(layer)


def forget_expectations(layer: "BinaryLayer") -> None:
    """Stop the check that an optimizer holds the learned scale and thresholds of `layer`."""
    _expecting.discard(layer)


def _own(layer: "BinaryLayer") -> dict[str, Tensor]:
    """Return the parameters that the layer has beside its latent and those of the float layer."""
    shift = layer.input_shift
    own = {"learned scales": layer.weight_quantizer.alpha, "thresholds": None if shift is None else shift.shift}
    return {what: parameter for what, parameter in own.items() if parameter is not None}


def _warn(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Judge the layers of `optimizer` at its third step, each once: a pre-hook of steps."""
    if torch.compiler.is_compiling() or not _expecting:
        return
    _stepped[optimizer] = count = _stepped.get(optimizer, 0) + 1
    if count != _STEPS:
        return
    mine, held = _ids([optimizer]), _ids([*_stepped])
    forgotten: dict[str, list[str]] = {}
    for layer in [layer for layer in _expecting if id(layer._parameters.get("latent")) in mine]:
        _expecting.discard(layer)
        for what, parameter in _own(layer).items():
            if parameter.requires_grad and parameter.grad is not None and id(parameter) not in held:
                forgotten.setdefault(what, []).append(layer.described())
    for what, names in forgotten.items():
        warnings.warn(
            f"the optimizer holds the latents of {some(sorted(names))}, but not their {what}, which never move. Make "
            "the optimizer after binarize() and add_thresholds(), from all parameters, or call requires_grad_(False) "
            "on them",
            stacklevel=3,
        )


def _ids(optimizers: list[Optimizer]) -> set[int]:
    return {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
