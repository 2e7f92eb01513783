"""What is added in the pass of a kernel, which takes it only as it takes its own output."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def finished(
    kernel: Callable[..., Any], input: Any, others: tuple[Any, ...], memory_format: torch.memory_format, **options: Any
) -> Any:
    """What a kernel makes of an input and what it adds; None where that does not lie or cannot be laid as its output.

    Numbers, other dtypes and shapes that torch broadcasts are for torch; what it says of wrong ones is said by it.
    """
    if not others:
        return kernel(input, **options)
    if not all(isinstance(other, Tensor) and other.dtype is torch.float32 for other in others):
        return None
    try:
        return kernel(input, *(other.contiguous(memory_format=memory_format) for other in others), **options)
    except (RuntimeError, ValueError):  # another shape
        return None
