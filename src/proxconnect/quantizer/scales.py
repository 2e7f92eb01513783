"""Scales: ᾱ = mean |w*| and α = ⟨w*, F⟩/⟨F, F⟩, over the entries that share one."""

from typing import NamedTuple

import torch
from torch import Tensor

SMALLEST_INVERTED = 2.0**-100
"""The least ᾱ that divides a gradient, so that α/ᾱ² and its multiples stay within float32."""


class Scales(NamedTuple):
    """ᾱ, the mask ᾱ = 0 (there x = 0), and a divisor: ᾱ with 1 in place of 0."""

    alpha_bar: Tensor
    is_zero: Tensor
    divisor: Tensor

    @classmethod
    def of(cls, alpha_bar: Tensor) -> "Scales":
        """Derive mask and divisor from ᾱ."""
        is_zero = alpha_bar == 0
        return cls(alpha_bar, is_zero, torch.where(is_zero, 1.0, alpha_bar))

    def inverse(self) -> Tensor:
        """Return 1/ᾱ, which is finite even if ᾱ is denormal."""
        return torch.reciprocal(self.divisor.clamp(min=SMALLEST_INVERTED))


def least_squares(latent: Tensor, quantised: Tensor, dims: list[int]) -> Tensor:
    """Return ⟨w*, F⟩/⟨F, F⟩ over `dims`, and 0 for F = 0."""
    correlation, energy = latent * quantised, quantised.square()
    if dims:
        correlation, energy = correlation.sum(dims, keepdim=True), energy.sum(dims, keepdim=True)
    return correlation / torch.where(energy == 0, 1.0, energy)


def signed(scale: Tensor, weights: Tensor) -> Tensor:
    """Return scale · sign(w*) for scales that are not negative; a NaN scale gives NaN."""
    return torch.copysign(scale, weights + 0.0)  # -0 + 0 is +0


def wide(tensor: Tensor) -> torch.dtype:
    """Return the dtype of `tensor`, or float32 if that is wider."""
    return torch.promote_types(tensor.dtype, torch.float32)
