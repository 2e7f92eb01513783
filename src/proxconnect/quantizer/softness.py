"""The distance of the weights and inputs of `train()` from ±1."""

import math

import torch
from torch import Tensor

from proxconnect.quantizer.quantizer import Quantizer

SOFT = 0.1
"""Greatest mean distance from ±1 at the end of a run. The usual range of μ leaves 0.00 to 0.05."""

_MEASURED, _KEPT = 4096, 64
"""About how many entries of a latent `measured` returns, and `sample` keeps."""


def normalised(quantizer: Quantizer, tensor: Tensor) -> Tensor:
    """Return x = tensor/ᾱ as the quantizer takes it, 0 for ᾱ = 0."""
    magnitude = quantizer.sharing.mean_magnitude(tensor)
    return tensor if magnitude is None else tensor / torch.where(magnitude == 0, 1.0, magnitude)


def is_soft(values: Tensor) -> bool:
    """Return True if the mean distance of `values` from ±1 is more than `SOFT`."""
    return bool((values.abs() - 1).abs().mean(dtype=torch.float32) > SOFT)


def usual_inputs() -> Tensor:
    """Return 100 quantiles of the standard normal distribution, (100,), in place of inputs that are not known."""
    return math.sqrt(2) * torch.erfinv(torch.linspace(-0.99, 0.99, 100))


def measured(quantizer: Quantizer, latent: Tensor) -> Tensor:
    """Return some entries of `latent` (all, if it is small), divided by ᾱ, without gradient, (n,).

    ᾱ is the mean |latent| of the channel or tensor, also with a learned scale. Without a scale nothing is divided.
    """
    return _some(normalised(quantizer, latent.detach()), _MEASURED)


def sample(latent: Tensor) -> Tensor | None:
    """Return a copy of some entries of `latent`, (n,); None if they are sharded or on the meta device."""
    if hasattr(latent, "to_local") or latent.is_meta:
        return None
    return _some(latent.detach(), _KEPT).clone()


def _some(tensor: Tensor, count: int) -> Tensor:
    """Return about `count` entries of a tensor, in one dimension; an odd step meets all columns."""
    flat = tensor.reshape(-1)
    return flat[:: len(flat) // count | 1]
