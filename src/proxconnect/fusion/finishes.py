"""Batch norms of float images and what follows them in one pass, or layer by layer for other inputs."""

from collections.abc import Sequence

import torch
from torch import Tensor

from proxconnect.fusion.links import Link, run
from proxconnect.kernels.epilogue import Step
from proxconnect.kernels.finish import Finish


class FusedNorm:
    """A batch norm of images and its links, the norm the first; called with the input and what the links add."""

    def __init__(self, channels: int, links: Sequence[Link], steps: tuple[Step, ...], *, in_place: bool) -> None:
        self.links, self.in_place = tuple(links), in_place
        self.kernel = Finish(steps, channels)

    def __call__(self, input: Tensor, *others: Tensor) -> Tensor:
        """(N, channels, H, W), in the memory format channels_last; written into `input` where nobody else reads it."""
        is_fit = input.dtype is torch.float32 and input.dim() == 4
        if not is_fit or not input.is_contiguous(memory_format=torch.channels_last):
            return run(self.links, input, others)
        others = tuple(other.contiguous(memory_format=torch.channels_last) for other in others)
        return self.kernel(input, *others, out=input if self.in_place else None)
