"""Inputs of networks, in batches of any size."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from proxconnect._support.example import tensors_in


def of_shapes(shapes: Sequence[Sequence[int]]) -> tuple[Tensor, ...]:
    """Normal floats of these shapes, one tensor for each positional argument; ValueError for more than memory holds."""
    try:
        return tuple(torch.randn(*shape) for shape in shapes)
    except (RuntimeError, MemoryError):
        raise ValueError(f"there is no memory for an input of {shown(shapes)}: pass a smaller shape") from None


def batch_of(example: Any) -> int:
    """The size of the first dimension of the first tensor; 1 where there is none."""
    return next((len(tensor) for tensor in tensors_in(example) if tensor.dim()), 1)


def with_batch(example: Any, size: int) -> Any:
    """`example` with the first entry of each of its tensors `size` times."""
    return tree_map_only(Tensor, lambda t: t[:1].repeat(size, *[1] * (t.dim() - 1)) if t.dim() else t, example)


def shapes_of(example: Any) -> tuple[tuple[int, ...], ...]:
    """The shapes of the tensors in it."""
    return tuple(tuple(tensor.shape) for tensor in tensors_in(example))


def shown(shapes: Sequence[Sequence[int]]) -> str:
    """Shapes as people write them."""
    return " and ".join("×".join(map(str, shape)) or "a number" for shape in shapes) or "no tensor"
