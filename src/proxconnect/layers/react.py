"""ReActNet's learned shifts (Liu 2020, arXiv 2003.03488), as modules for any network.

RSign is a `Shift` before a layer with binary inputs. RPReLU is a PReLU between two shifts.
"""

from typing import Any

import torch
from torch import Tensor, nn

from proxconnect._support.arguments import whole
from proxconnect.layers.prelu import PReLU


class Shift(nn.Module):
    """The module of x + shift, with a learned shift per channel that starts at 0; sign(x + shift) has threshold -shift.

    Args:
        channels: the number of channels.
        dim: the dimension of channels: 1 for images, -1 for tokens, or any other than 0.
        device, dtype: those of the parameter `shift`, of shape (channels,).

    Raises:
        ValueError: `dim` is 0, the batch, or there is no channel.
        TypeError: `channels` or `dim` is no whole number.
    """

    def __init__(self, channels: int, dim: int = 1, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        channels, dim = whole(channels, "channels", 1), whole(dim, "dim")
        if dim == 0:
            raise ValueError("dimension 0 is the batch: pass dim=1 for images, dim=-1 for tokens")
        self.channels, self.dim = channels, dim
        self.shift = nn.Parameter(torch.zeros(channels, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` plus the shift of each channel, in the shape of `x`."""
        behind = (x.dim() if self.dim > 0 else 0) - 1 - self.dim
        return x + self.shift.reshape(-1, *(1,) * behind)

    def extra_repr(self) -> str:
        """Return the text that `repr` shows: the number of channels and their dimension."""
        return f"{self.channels}, dim={self.dim}"


class RPReLU(nn.Sequential):
    """PReLU(x - γ) + ζ with γ, ζ and the slope learned for each channel of dimension 1; γ and ζ start at 0.

    Children 0 and 2 are the shifts -γ and ζ; child 1 is the PReLU (He 2015, arXiv 1502.01852).
    """

    def __init__(self, channels: int) -> None:
        channels = whole(channels, "channels", 1)
        super().__init__(Shift(channels), PReLU(channels), Shift(channels))
