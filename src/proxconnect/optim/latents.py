"""The latents that an optimizer moves, and the clamp of BinaryConnect and BNN."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from proxconnect._support.arguments import positive, require_module
from proxconnect._support.text import some
from proxconnect.layers import BinaryLayer
from proxconnect.layers.living import LIVING

_INNER = ("optimizer", "_base_optimizer", "base")
"""The attributes in which Accelerate and Lightning, timm's Lookahead and schedule-free keep the wrapped optimizer."""


def unwrapped(optimizer: object) -> Optimizer:
    """Return the torch `Optimizer` inside wrappers, as of Accelerate, or `optimizer` itself; TypeError for others."""
    inner: object = optimizer
    while held := next((h for name in _INNER if isinstance(h := getattr(inner, name, None), Optimizer)), None):
        inner = held
    if not isinstance(inner, Optimizer):
        raise TypeError(f"an optimizer is needed first, then the model; got {type(optimizer).__name__}")
    return inner


def owners(parameters: Iterable[Tensor]) -> dict[Tensor, BinaryLayer]:
    """Map those of `parameters` that are latents to their binary layers; only layers still in memory are found."""
    held = {id(layer._parameters.get("latent")): layer for layer in list(LIVING)}
    return {parameter: held[id(parameter)] for parameter in parameters if id(parameter) in held}


def stepped_layers(optimizer: Optimizer, model: nn.Module) -> dict[str, BinaryLayer]:
    """Return the binary layers of `model` whose latents `optimizer` holds, by qualified name.

    ValueError if there is no such layer, or a latent was made under `torch.inference_mode`.
    """
    require_module(model, "this call, with the optimizer first,")
    layers = {name: module for name, module in model.named_modules() if isinstance(module, BinaryLayer)}
    if not layers:
        raise ValueError(f"{type(model).__name__} has no binary layer: call proxconnect.binarize(model) first")
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    stepped = {name: layer for name, layer in layers.items() if id(layer.latent) in held}
    if not stepped:
        raise ValueError(
            f"the {type(optimizer).__name__} holds none of the {len(layers)} latents of this model: make it from the "
            "binarized model's parameters, on the device where they stay"
        )
    if frozen := [name for name, layer in stepped.items() if layer.latent.is_inference()]:
        raise ValueError(
            f"the latents of {some(frozen)} were made under torch.inference_mode, and torch cannot train those: build "
            "the model outside of it, or take copy.deepcopy(model), and make the optimizer from that"
        )
    return stepped


def takes_effect(optimizer: Optimizer, kwargs: dict[str, Any]) -> bool:
    """Return False if a distributed checkpoint makes this call of `step`, with lr = 0, to get an empty state."""
    return kwargs != {"closure": None} or any(learning_rate(group) != 0 for group in optimizer.param_groups)


def skipped(optimizer: Optimizer) -> Tensor | None:
    """Return a scalar on the device, not 0 if a fused optimizer skips this call of `step`; None without GradScaler.

    Other optimizers are not called for a step that GradScaler skips. To read the scalar is to wait for the device.
    """
    return getattr(optimizer, "found_inf", None)


def learning_rate(group: dict[str, Any]) -> float | None:
    """Return the learning rate of a parameter group; None if the optimizer has none, or computes it (Adafactor)."""
    rate = group.get("lr")
    return None if rate is None else float(rate)


def require_learning_rates(optimizer: Optimizer, groups: Iterable[int], use: str) -> None:
    """Raise ValueError, which begins with `use`, if one of the parameter groups, by index, has no learning rate."""
    if any(learning_rate(optimizer.param_groups[i]) is None for i in groups):
        kind = type(optimizer).__name__
        raise ValueError(f"{use} needs the learning rate η, and a parameter group of this {kind} has no 'lr'")


def clip_latents(optimizer: Optimizer, model: nn.Module, bound: float = 1.0) -> RemovableHandle:
    """Clamp the latents to [-bound, bound] after every step of `optimizer`; use it instead of `weight.data.clamp_`.

    BinaryConnect (arXiv 1511.00363) and BNN (arXiv 1602.02830) were published with bound 1 and no scale. A latent that
    a step made infinite becomes NaN, which you notice, unlike ±bound.

    Args:
        optimizer: the optimizer, or a wrapper of Accelerate or Lightning.
        model: the binarized model.
        bound: the largest magnitude of a latent.

    Returns:
        A handle; its `remove()` ends the clamping.

    Raises:
        ValueError: the optimizer moves no latent of the model, or the bound is not positive and finite.
        TypeError: an argument has another type.

    Example:
        >>> model = pc.binarize(nn.Sequential(nn.Linear(2, 1, bias=False)), "bc", keep=None, scale=None)
        >>> model[0].weight = torch.tensor([[0.3, -0.2]])
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        >>> handle = pc.clip_latents(optimizer, model)
        >>> model(torch.tensor([2.0, -0.5])).backward()
        >>> optimizer.step()
        >>> model[0].latent.data  # not -1.7 and 0.3
        tensor([[-1.0000,  0.3000]])
    """
    bound = positive(bound, "bound")
    optimizer = unwrapped(optimizer)
    layers = stepped_layers(optimizer, model).values()

    @torch.no_grad()
    def clamp(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for layer in layers:
            lost = layer.latent - layer.latent  # 0, or NaN for NaN and infinity
            layer.latent.clamp_(-bound, bound).add_(lost)

    return optimizer.register_step_post_hook(clamp)
