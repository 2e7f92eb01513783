"""ReActNet's learned shifts (Liu 2020, arXiv 2003.03488), as modules that any network can take.

RSign is a `Shift` before a binary layer, which takes the signs of its input itself; RPReLU is a PReLU between two.
"""

from typing import Any

import torch
from torch import Tensor, nn


class Shift(nn.Module):
    """x + shift, one number learned for each channel, 0 at first; sign(x + shift) is RSign of the threshold -shift.

    Args:
        channels: how many.
        dim: the dimension of x that they are, 1 as of images, -1 as of tokens, or another that is no batch.
        device, dtype: of the parameter `shift`, of shape (channels,).

    ValueError for the dimension 0.
    """

    def __init__(self, channels: int, dim: int = 1, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        if dim == 0:
            raise ValueError("dimension 0 is the batch: pass dim=1 for images, dim=-1 for tokens")
        self.channels, self.dim = channels, dim
        self.shift = nn.Parameter(torch.zeros(channels, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """To the same shape."""
        behind = (x.dim() if self.dim > 0 else 0) - 1 - self.dim
        return x + self.shift.reshape(-1, *(1,) * behind)

    def extra_repr(self) -> str:
        """Channels and their dimension."""
        return f"{self.channels}, dim={self.dim}"


class RPReLU(nn.Sequential):
    """PReLU(x - γ) + ζ with γ, ζ and the slope learned for each channel of dimension 1; it starts as PReLU.

    Children 0 and 2 are the shifts -γ and ζ, child 1 is the PReLU (He 2015, arXiv 1502.01852).
    """

    def __init__(self, channels: int) -> None:
        super().__init__(Shift(channels), nn.PReLU(channels), Shift(channels))
