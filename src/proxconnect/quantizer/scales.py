"""Which entries of a tensor share a scale, and the arithmetic of scales ᾱ and α."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor

from proxconnect._support.arguments import dimensions

Scale = Literal["channel", "tensor", "learned"] | None

SMALLEST_INVERTED = 2.0**-100
"""The least ᾱ that divides a gradient, so that α/ᾱ² and its multiples stay within float32."""


@dataclass(frozen=True)
class Sharing:
    """The entries of a tensor that share a scale: those of a channel ("channel", "learned"), all ("tensor") or none.

    Args:
        scale: as for `Quantizer`.
        channel_dims: the dimensions whose indices are channels; each combination of indices has a scale.

    Raises:
        ValueError: the scale is unknown.
        TypeError: `channel_dims` are no dimensions.
    """

    scale: Scale
    channel_dims: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.scale not in ("channel", "tensor", "learned", None):
            raise ValueError(f"scale must be 'channel', 'tensor', 'learned' or None; got {self.scale!r}")
        object.__setattr__(self, "channel_dims", dimensions(self.channel_dims, "channel_dims"))

    def mean_magnitude(self, latent: Tensor) -> Tensor | None:
        """Return ᾱ, mean |latent| per tensor or channel, in float32 or wider, broadcastable; None without a scale."""
        if self.scale is None:
            return None
        magnitudes, dims = latent.abs().to(wide(latent)), self.shared_dims(latent)
        return magnitudes.mean(dims, keepdim=True) if dims else magnitudes  # torch would reduce all for no dimension

    def shared_dims(self, latent: Tensor) -> list[int]:
        """Return the dimensions over which entries of `latent` share a scale, in ascending order."""
        return sorted({*range(latent.dim())}.difference(self._channels(latent)))

    def channel_sizes(self, latent: Tensor) -> list[int]:
        """Return the shape of one scale for each channel of `latent`, in the order of `channel_dims`."""
        return [latent.shape[d] for d in self._channels(latent)]

    def broadcast(self, scales: Tensor, latent: Tensor) -> Tensor:
        """Return `scales`, whose shape is `channel_sizes`, with sizes of 1 so that they broadcast over `latent`."""
        channels = self._channels(latent)
        return scales.reshape([latent.shape[d] if d in channels else 1 for d in range(latent.dim())])

    def _channels(self, latent: Tensor) -> list[int]:
        if not latent.dim() or self.scale == "tensor":
            return []
        dims = range(latent.dim())
        try:
            return [dims[d] for d in self.channel_dims]
        except IndexError:
            raise ValueError(
                f"channel_dims {self.channel_dims} are no dimensions of a tensor of shape {tuple(latent.shape)}"
            ) from None


class Scales(NamedTuple):
    """Mean magnitudes ᾱ of latents, the mask of those that are 0, and `divisor`: ᾱ with 1 in place of 0."""

    alpha_bar: Tensor
    is_zero: Tensor
    divisor: Tensor

    @classmethod
    def of(cls, alpha_bar: Tensor) -> Self:
        """Compute mask and divisor from ᾱ, a tensor of any shape."""
        is_zero = alpha_bar == 0
        return cls(alpha_bar, is_zero, torch.where(is_zero, 1.0, alpha_bar))

    def inverse(self) -> Tensor:
        """Return 1/divisor for gradients, with divisors below `SMALLEST_INVERTED` raised to it: finite but for NaN."""
        return torch.reciprocal(self.divisor.clamp(min=SMALLEST_INVERTED))


def least_squares(latent: Tensor, quantised: Tensor, dims: list[int]) -> Tensor:
    """Return the least-squares α of latent ≈ α·quantised over `dims`, which keep size 1; 0 if `quantised` is 0."""
    correlation, energy = latent * quantised, quantised.square()
    if dims:
        correlation, energy = correlation.sum(dims, keepdim=True), energy.sum(dims, keepdim=True)
    return correlation / torch.where(energy == 0, 1.0, energy)


def signed(scale: Tensor, weights: Tensor) -> Tensor:
    """Return scale·sign(weights), with sign(±0) = 1; `scale` must be at least 0 or NaN, which gives NaN."""
    return torch.copysign(scale, weights + 0.0)  # -0 + 0 is +0


def wide(tensor: Tensor) -> torch.dtype:
    """Return the dtype to compute in: float32, or the dtype of `tensor` if that is wider."""
    return torch.promote_types(tensor.dtype, torch.float32)
