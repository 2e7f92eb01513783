"""Which tensors the kernels can read, and the rows in which they do."""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

_PLAIN = (Tensor, nn.Parameter)


class Rows(NamedTuple):
    """The division of a dense tensor into rows: contiguous entries that share a scale, or chunks without a scale."""

    scales: int
    """The number of rows; 0 without a scale."""
    columns: int
    """The entries per row; `CHUNK` without a scale."""
    entries: int
    sizes: tuple[int, ...]
    """The shape of the scales, broadcastable over the tensor."""
    strides: tuple[int, ...]


CHUNK = 4096


@lru_cache(maxsize=4096)
def rows_of(
    shape: tuple[int, ...], strides: tuple[int, ...], scale: str | None, channel_dims: tuple[int, ...]
) -> Rows | None:
    """Divide a tensor into contiguous rows, one per scale of a `Quantizer`; None if kernels cannot take its layout."""
    entries, sized = math.prod(shape), [d for d, size in enumerate(shape) if size > 1]
    if entries < 2:
        return None
    outermost_first = sorted(sized, key=lambda d: -strides[d])
    if any(strides[d] != math.prod(shape[e] for e in outermost_first[i + 1 :]) for i, d in enumerate(outermost_first)):
        return None  # there are gaps
    if not all(-len(shape) <= d < len(shape) for d in channel_dims):
        return None
    channels = [] if scale in (None, "tensor") else sorted({d % len(shape) for d in channel_dims} & set(sized))
    if outermost_first[: len(channels)] != channels:
        return None
    sizes = tuple(size if d in channels else 1 for d, size in enumerate(shape))
    scales = 0 if scale is None else math.prod(sizes)
    return Rows(scales, entries // scales if scales else CHUNK, entries, sizes, strides)


def is_readable(tensor: Tensor) -> bool:
    """Return True if memory holds the entries of `tensor`, and nothing traces, transforms or watches what uses it."""
    return (
        type(tensor) in _PLAIN
        and not tensor.is_neg()
        and torch._C._has_storage(tensor)
        and not tensor._is_zerotensor()
        and forward_ad._current_level < 0
        and not torch._C._are_functorch_transforms_active()
        and not is_in_torch_dispatch_mode()
        and torch._C._get_tracing_state() is None
    )


def laid_out(tensor: Tensor, rows: Rows) -> Tensor:
    """Return a tensor in the memory layout of the rows."""
    if tensor.stride() == rows.strides:
        return tensor
    return torch.empty_strided(tensor.shape, rows.strides, dtype=tensor.dtype, device=tensor.device).copy_(tensor)
