"""Warnings about a model that ships before its weights are hard, or with batch-norm statistics of other weights."""

import math
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from proxconnect._support.text import some
from proxconnect.layers import BinaryLayer
from proxconnect.quantizer import Quantizer
from proxconnect.quantizer.softness import is_soft, measured, sample, usual_inputs

_ADVICE = "call proxconnect.reestimate_batchnorm(model, batches) first, with training inputs"


def warn_unless_ready(model: nn.Module, stacklevel: int) -> None:
    """Warn of batch-norm statistics of soft or float weights, or if there are none, of a trained model still soft.

    Norms are not reported after `reestimate_batchnorm`, which leaves 0 in `num_batches_tracked` as a mark.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, BinaryLayer)}
    soft = {described: quantizer for name, layer in layers.items() for described, quantizer in _soft_parts(name, layer)}
    norms = _estimated(model)
    tracked = [name for name, norm in norms.items() if norm.num_batches_tracked]
    if soft and norms and all(_is_of_float_network(layer) for layer in layers.values()):
        message = "have statistics of the float network, and the weights that ship are ±α"
        warnings.warn(f"batch norms ({some([*norms])}) {message}: {_ADVICE}", stacklevel=stacklevel + 1)
    elif soft and tracked:
        message = f"have statistics of soft weights or inputs, as in {some([*soft])}, and those that ship are hard"
        warnings.warn(f"batch norms ({some(tracked)}) {message}: {_ADVICE}", stacklevel=stacklevel + 1)
    elif not norms and (moved := [name for name, quantizer in soft.items() if _was_used(quantizer)]):
        warnings.warn(
            f"{some(moved)} are soft, and what ships is hard, another function: train until Sharpening reaches its "
            "end, or fix the sharpness with pair.at(mu) if you want it so",
            stacklevel=stacklevel + 1,
        )


@torch.no_grad()
def _soft_parts(name: str, layer: BinaryLayer) -> Iterator[tuple[str, Quantizer]]:
    """Yield the quantizers of a layer whose values in training were soft, each after a description."""
    for part, quantizer in layer.quantizers.items():
        values = _seen_weights(layer) if part == "weights" else _quantised(quantizer, usual_inputs())
        if values is not None and is_soft(values):
            sharpness = f" at μ = {float(quantizer.mu):g}" if quantizer.sharpness else ""
            yield f"{name or 'the model itself'} ({part}, {quantizer.pair.name}{sharpness})", quantizer


def _seen_weights(layer: BinaryLayer) -> Tensor | None:
    """Return some weights of training in units of their scale, (n,); None if latents are sharded or on meta."""
    if hasattr(layer.latent, "to_local") or layer.latent.is_meta:
        return None
    quantizer = layer.weight_quantizer
    x = measured(quantizer, layer.by_channel(layer.latent))
    return x if quantizer.trains_latent or _is_of_float_network(layer) else _quantised(quantizer, x)


def _quantised(quantizer: Quantizer, x: Tensor) -> Tensor:
    return quantizer.pair.forward(x, quantizer.mu.to(x.device))


def _estimated(model: nn.Module) -> dict[str, _BatchNorm]:
    """Return the batch norms after the first binary layer whose statistics are no longer those of a new module."""
    found, is_after = {}, False
    for name, module in model.named_modules():
        is_after = is_after or isinstance(module, BinaryLayer)
        if is_after and isinstance(module, _BatchNorm) and _has_statistics(module):
            found[name] = module
    return found


def _has_statistics(norm: _BatchNorm) -> bool:
    variances = norm.running_var
    return variances is not None and not variances.is_meta and bool((variances != 1).any())


def _is_of_float_network(layer: BinaryLayer) -> bool:
    """Return True if the latent is still the weight of a float network, and no pass in `train()` quantised it."""
    before, now = layer.weight_quantizer.float_sample, sample(layer.latent)
    return before is not None and now is not None and torch.equal(before.to(now), now)


def _was_used(quantizer: Quantizer) -> bool:
    """Return True if training used the quantizer here, or a schedule has moved its μ before."""
    usual = quantizer.sharpness
    if usual is None:
        return False
    return quantizer.trained or not math.isclose(float(quantizer.mu), usual.unmoved, rel_tol=1e-2)
