"""A start for binary inputs: thresholds and magnitudes from the inputs that layers had while these were float."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from proxconnect.layers import BinaryLinear


@torch.no_grad()
def fit_inputs(network: nn.Module, before: nn.Module, run: Callable[[nn.Module], Any], present: Tensor) -> None:
    """Set thresholds, biases and magnitudes of latents in place, so that each layer computes about what it did before.

    A layer had W·x + b. With the mean m of each channel of x, and β, the mean |x - m| of all channels, x is about
    m + β·sign(x - m) (Rastegari 2016, arXiv 1603.05279, has m = 0). So the threshold is m, the bias b + W·m, and the
    latent is multiplied by β.

    Args:
        network: a network with binary inputs and thresholds.
        before: the same network without binary inputs.
        run: a function that runs a network on a batch.
        present: boolean (N, length), false for padding.
    """
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, BinaryLinear)}
    seen: dict[str, Tensor] = {}

    def keep(name: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[name] = inputs[0][present]

    hooks = [before.get_submodule(name).register_forward_pre_hook(partial(keep, name)) for name in layers]
    try:
        run(before)
    finally:
        for hook in hooks:
            hook.remove()
    for name, layer in layers.items():
        if layer.input_shift is None or layer.bias is None:
            continue
        mean = seen[name].mean(0)
        layer.bias += layer.binary_weight @ mean
        layer.input_shift.shift.copy_(-mean)
        layer.latent *= (seen[name] - mean).abs().mean()
