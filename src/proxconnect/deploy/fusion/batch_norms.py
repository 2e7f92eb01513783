"""Fused operations of batch norms of float images, their epilogue steps and a max pool."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from proxconnect.deploy.fusion.operation import Match, Operation
from proxconnect.deploy.fusion.rewriting import Rewriting
from proxconnect.deploy.fusion.steps import EpilogueStep, for_kernels, step_of
from proxconnect.kernels.epilogue import Add, Step
from proxconnect.kernels.finish import Finish, FinishMaxPool2d


class ImageNorm(Operation):
    """A batch norm of float images (the first epilogue step), the steps after it, and an optional max pool.

    With `in_place` and without a pool, it overwrites its input.
    """

    name = "norms of floats"

    def __init__(
        self, channels: int, steps: Sequence[EpilogueStep], then: tuple[Step, ...], pool: nn.MaxPool2d | None, *,
        in_place: bool,
    ) -> None:  # fmt: skip
        finish = Finish(then, channels, in_place=in_place) if pool is None else FinishMaxPool2d(then, channels, pool)
        super().__init__(finish, steps, are_images=True)
        self.pool = pool

    @classmethod
    def match(cls, work: Rewriting, node: Node) -> Match | None:
        """Match a batch norm of a graph in channels_last, with the steps and the max pool after it."""
        norm = work.module_of(node) if work.has_images else None
        value = node.args[0] if node.args else None
        if not isinstance(norm, nn.BatchNorm2d) or not isinstance(value, Node):
            return None
        first = step_of(node, value, work.modules)
        chain = [] if first is None else [first, *work.chain(node, norm.num_features, are_images=True)]
        steps, then = for_kernels(chain, norm.num_features)
        if not steps:
            return None
        nodes = [step.node for step in steps]
        pool = pool_behind(work, nodes[-1], then)
        is_fresh = isinstance(work.module_of(value), nn.Conv2d) and len(value.users) == 1
        operation = cls(norm.num_features, steps, then, pool, in_place=is_fresh)
        return Match(operation, nodes if pool is None else [*nodes, *nodes[-1].users], (value,))

    def seen(self, input: Tensor) -> Tensor | None:
        """Return the input if it is float32, (N, C, H, W) and channels_last, or None."""
        is_image = input.dtype is torch.float32 and input.dim() == 4
        return input if is_image and input.is_contiguous(memory_format=torch.channels_last) else None


def pool_behind(work: Rewriting, last: Node, then: Sequence[Step]) -> nn.MaxPool2d | None:
    """Return the max pool that is the only user of `last`, if kernels can run it after the steps `then`; else None."""
    readers = list(last.users)
    pool: Any = work.module_of(readers[0]) if len(readers) == 1 else None
    if type(pool) is not nn.MaxPool2d or any(isinstance(step, Add) for step in then):
        return None
    return pool if not pool.return_indices and pool.dilation in (1, (1, 1)) else None
