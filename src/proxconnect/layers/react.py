"""ReActNet's learned shifts (Liu 2020, arXiv 2003.03488), as modules that any network can take.

RSign is a `Shift` before a binary layer, which takes the signs of its input itself; RPReLU is a PReLU between two.
"""

import torch
from torch import Tensor, nn


class Shift(nn.Module):
    """x + shift, one number learned for each channel, 0 at first; sign(x + shift) is RSign of the threshold -shift.

    Args:
        channels: how many.
        dim: the dimension of x that they are, 1 as for images, or -1 as for tokens.

    ValueError for another dimension.
    """

    def __init__(self, channels: int, dim: int = 1) -> None:
        super().__init__()
        if dim not in (1, -1):
            raise ValueError(f"channels are in dimension 1 or -1; got {dim}")
        self.channels, self.dim = channels, dim
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, …), or (…, channels), to the same shape."""
        behind = x.dim() - 2 if self.dim == 1 else 0
        return x + self.shift.reshape(-1, *(1,) * behind)

    def extra_repr(self) -> str:
        """Channels, and their dimension where it is not 1."""
        return f"{self.channels}" if self.dim == 1 else f"{self.channels}, dim={self.dim}"


class RPReLU(nn.Sequential):
    """PReLU(x - γ) + ζ with γ, ζ and the slope learned for each channel of dimension 1; it starts as PReLU.

    Children 0 and 2 are the shifts -γ and ζ, child 1 is the PReLU (He 2015, arXiv 1502.01852).
    """

    def __init__(self, channels: int) -> None:
        super().__init__(Shift(channels), nn.PReLU(channels), Shift(channels))
