"""Batch norms of float images and what follows them in one pass, or layer by layer for other inputs."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from proxconnect.deploy.fusion.adding import finished
from proxconnect.deploy.fusion.links import Link, run
from proxconnect.kernels.epilogue import Add, Step
from proxconnect.kernels.finish import Finish, FinishMaxPool2d


def can_pool(module: nn.Module | None, steps: Sequence[Step]) -> bool:
    """Whether a module is a max pool that runs in the same pass as these steps."""
    if type(module) is not nn.MaxPool2d or any(isinstance(step, Add) for step in steps):
        return False
    return not module.return_indices and module.dilation in (1, (1, 1))


class FusedNorm:
    """A batch norm of images and its links, the norm the first; called with the input and what the links add."""

    def __init__(self, channels: int, links: Sequence[Link], steps: tuple[Step, ...], *, in_place: bool) -> None:
        self.links, self.in_place = tuple(links), in_place
        self.kernel = Finish(steps, channels)

    def __call__(self, input: Tensor, *others: Tensor) -> Tensor:
        """(N, channels, H, W), in the memory format channels_last; written into `input` where nobody else reads it."""
        output: Tensor | None = None
        if _is_fit(input):
            output = finished(self.kernel, input, others, torch.channels_last, out=input if self.in_place else None)
        return run(self.links, input, others) if output is None else output


class FusedNormPool:
    """A batch norm of images, its links, which add nothing, and a max pool."""

    def __init__(self, channels: int, links: Sequence[Link], steps: tuple[Step, ...], pool: nn.MaxPool2d) -> None:
        self.links, self.pool = tuple(links), pool
        self.kernel = FinishMaxPool2d(steps, channels, pool)

    def __call__(self, input: Tensor) -> Tensor:
        """(N, channels, H, W) → (N, channels, H', W'), in the memory format channels_last."""
        if _is_fit(input):
            return self.kernel(input)
        answer: Tensor = self.pool(run(self.links, input, ()))
        return answer


def _is_fit(input: Tensor) -> bool:
    is_image = input.dtype is torch.float32 and input.dim() == 4
    return is_image and input.is_contiguous(memory_format=torch.channels_last)
