"""What scales are made of: ᾱ = mean |w*|, and α = ⟨w*, F⟩/⟨F, F⟩, over the entries that share one."""

from typing import NamedTuple

import torch
from torch import Tensor

SMALLEST_INVERTED = 2.0**-100
"""A smaller ᾱ counts as this where gradients are divided by it, so that α/ᾱ² and its multiples are within float32."""


class Scales(NamedTuple):
    """ᾱ; where it is 0 (then x = 0); and ᾱ with 1 put there, to divide by."""

    alpha_bar: Tensor
    is_zero: Tensor
    divisor: Tensor

    @classmethod
    def of(cls, alpha_bar: Tensor) -> "Scales":
        """Those of this ᾱ."""
        is_zero = alpha_bar == 0
        return cls(alpha_bar, is_zero, torch.where(is_zero, 1.0, alpha_bar))

    def inverse(self) -> Tensor:
        """1/ᾱ, finite where ᾱ is denormal too."""
        return torch.reciprocal(self.divisor.clamp(min=SMALLEST_INVERTED))


def mean_magnitude(latent: Tensor, dims: list[int]) -> Tensor:
    """Mean |w*| over these dimensions, which stay as 1, in float32 or wider."""
    magnitudes = latent.abs().to(wide(latent))
    return magnitudes.mean(dims, keepdim=True) if dims else magnitudes  # torch takes no dimension for all of them


def least_squares(latent: Tensor, quantised: Tensor, dims: list[int]) -> Tensor:
    """⟨w*, F⟩/⟨F, F⟩ over these dimensions, 0 where F is."""
    correlation, energy = latent * quantised, quantised.square()
    if dims:
        correlation, energy = correlation.sum(dims, keepdim=True), energy.sum(dims, keepdim=True)
    return correlation / torch.where(energy == 0, 1.0, energy)


def signed(scale: Tensor, weights: Tensor) -> Tensor:
    """scale · sign(w*), of scales that are not negative, and NaN where a weight of theirs is."""
    return torch.copysign(scale, weights + 0.0)  # -0 + 0 is +0


def wide(tensor: Tensor) -> torch.dtype:
    """Its dtype, or float32 where that is narrower."""
    return torch.promote_types(tensor.dtype, torch.float32)
