"""What the machine of lives expects, in plain formulas: weights, prox points, steps and μ."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from proxconnect import Pair, Quantizer
from proxconnect.layers import BinaryLayer

LEARNING_RATE, GAMMA, THRESHOLD = 0.05, 0.3, 1e-3
STEPS, HOLD, CLIP = 6, 2, 0.2


def layers_of(model: nn.Module) -> dict[str, BinaryLayer]:
    return {name: module for name, module in model.named_modules() if isinstance(module, BinaryLayer)}


def magnitude(quantizer: Quantizer, view: Tensor) -> Tensor:
    """ᾱ, or 1 without a scale."""
    if quantizer.scale is None:
        return torch.ones((), dtype=view.dtype)
    channels = () if quantizer.scale == "tensor" else quantizer.channel_dims
    rest = [d for d in range(view.dim()) if d not in channels]
    return _wide(view).abs().mean(rest, keepdim=True)


def hard_weight(layer: BinaryLayer) -> Tensor:
    """±α, of zero +α."""
    quantizer, view = layer.weight_quantizer, layer.by_channel(layer.latent.detach())
    alpha = quantizer.alpha
    if alpha is None:
        scale = magnitude(quantizer, view)
    else:
        channels = quantizer.channel_dims
        scale = _wide(alpha.detach()).reshape([view.shape[d] if d in channels else 1 for d in range(view.dim())])
    return (scale * torch.where(view < 0, -1.0, 1.0)).to(view.dtype).reshape(layer.latent.shape)


def soft_weight(layer: BinaryLayer) -> Tensor:
    """α·F(w*/ᾱ) with α by least squares, times s/ᾱ where a scale s is learned; in double precision."""
    quantizer, view = layer.weight_quantizer, layer.by_channel(layer.latent.detach()).double()
    alpha_bar = magnitude(quantizer, view)
    x = view / torch.where(alpha_bar == 0, 1.0, alpha_bar)
    quantised = quantizer.pair.forward(x, quantizer.mu.double())
    if quantizer.scale is None:
        return quantised.reshape(layer.latent.shape)
    channels = () if quantizer.scale == "tensor" else quantizer.channel_dims
    rest = [d for d in range(view.dim()) if d not in channels]
    energy = quantised.square().sum(rest, keepdim=True)
    alpha = (view * quantised).sum(rest, keepdim=True) / torch.where(energy == 0, 1.0, energy)
    if quantizer.alpha is not None:
        learned = quantizer.alpha.detach().double().reshape(alpha.shape)
        alpha = learned * alpha / torch.where(alpha_bar == 0, 1.0, alpha_bar)
    return (alpha * quantised).reshape(layer.latent.shape)


def prox_point(layer: BinaryLayer, latent: Tensor) -> Tensor:
    """ᾱ·P(w*/ᾱ)."""
    quantizer, view = layer.weight_quantizer, layer.by_channel(latent)
    pair = quantizer.pair
    assert isinstance(pair, Pair)
    if quantizer.scale is None:
        return pair.prox(view, quantizer.mu.to(view.dtype)).reshape(latent.shape)
    alpha_bar = magnitude(quantizer, view)
    x = view / torch.where(alpha_bar == 0, 1.0, alpha_bar)
    return (alpha_bar * pair.prox(x, quantizer.mu.to(x.dtype))).to(latent.dtype).reshape(latent.shape)


def stepped(
    kind: type[torch.optim.Optimizer], settings: Mapping[str, Any], state: dict[str, Any],
    values: Sequence[Tensor], gradients: Sequence[Tensor | None],
) -> tuple[list[Tensor], dict[str, Any]]:  # fmt: skip
    """Values and state after a step of an optimizer of torch's that knows nothing of binary layers."""
    twins = [nn.Parameter(value.clone()) for value in values]
    for twin, gradient in zip(twins, gradients, strict=True):
        twin.grad = None if gradient is None else gradient.clone()
    groups, taken = [], iter(twins)
    for group in state["param_groups"]:
        groups.append({"params": [next(taken) for _ in group["params"]]})
    optimizer = kind(groups, **settings)
    optimizer.load_state_dict(copy.deepcopy(state))
    optimizer.step()
    return [twin.detach() for twin in twins], optimizer.state_dict()


def flipped(latent: Tensor, gradient: Tensor, average: Tensor | None) -> tuple[Tensor, Tensor]:
    """A latent after a step of Bop, and its average of gradients."""
    if average is None:
        average = torch.zeros_like(latent)
        latent = torch.where(latent == 0, torch.finfo(latent.dtype).tiny, latent)
    average = average.lerp(gradient, GAMMA)
    flips = (average.abs() > THRESHOLD) & (average.sign() == torch.where(latent < 0, -1.0, 1.0))
    return torch.where(flips, -latent, latent), average


def scheduled_mu(shape: str, quantizer: Quantizer, count: int, travelled: float) -> float:
    """μ after so many steps, whose learning rates sum to `travelled`."""
    usual = quantizer.sharpness
    assert usual is not None
    if shape == "cumulative":
        return 1.0 + travelled
    p = min(1.0, count / (STEPS - HOLD))
    return {
        "exponential": usual.start * (usual.end / usual.start) ** p,
        "linear": usual.start + (usual.end - usual.start) * p,
        "cosine": usual.start + (usual.end - usual.start) * (1 - math.cos(math.pi * p)) / 2,
    }[shape]


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
