"""softmax(scale · q kᵀ) v of floats in one pass, called without torch's dispatcher."""

import ctypes
from functools import cache, lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from proxconnect.kernels.epilogue import PLANS
from proxconnect.kernels.library import NUMBERS, Attention, library

_LEAST_KEYS, _MOST_KEYS, _MOST_WIDTH = 16, 1024, 256
"""Fewer keys do not fill a tile; more, or wider heads, do not stay in the second cache."""

_NUMBER = NUMBERS["avx512"]
_LACKING = 1
"""What the library answers where the machine lacks what it needs."""


@cache
def has_attention() -> bool:
    """Whether this machine multiplies by bfloat16 in AMX, as `attention` does."""
    kernels = library()
    empty = Attention(0, 1, 1, 16, 16)
    return kernels is not None and kernels.px_attention(
        _NUMBER, None, None, None, ctypes.byref(empty), None, 1
    ) != _LACKING  # fmt: skip


def attention(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """softmax(scale · q kᵀ) v, as `scaled_dot_product_attention` computes it, in another order of sums.

    q is (batch, heads, queries, width), k and v (batch, heads, keys, width); scale is 1/√width by default. Returns
    (batch, queries, heads, width), as the next layer takes it. Products are those of float32, and errors those of sums
    of float32. What the kernel does not take goes by torch: another dtype or device, widths that are no multiple of 16
    or above 256, fewer than 16 or more than 1024 keys, heads whose entries lie apart, entries that are NaN or so large
    that a score might come near a million, and machines without AMX for bfloat16. No gradient goes through the kernel.
    """
    if q.dtype is k.dtype is v.dtype is torch.float32 and q.is_cpu and k.is_cpu and v.is_cpu and has_attention():
        call = _plan(q.shape, k.shape, v.shape, q.stride(), k.stride(), v.stride(), scale)
        if call is not None:
            y = torch.empty((q.shape[0], q.shape[2], q.shape[1], q.shape[3]), dtype=torch.float32)
            at = (q.data_ptr(), k.data_ptr(), v.data_ptr(), call, y.data_ptr(), torch.get_num_threads())
            if library().px_attention(_NUMBER, *at) == 0:  # type: ignore[union-attr]  # it was built
                return y
    return functional.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2)


@lru_cache(PLANS)
def _plan(
    q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...],
    q_strides: tuple[int, ...], k_strides: tuple[int, ...], v_strides: tuple[int, ...], scale: float | None,
) -> object | None:  # fmt: skip
    """The structure by reference for tensors of such shapes and strides; None where the kernel does not take them."""
    if len(q) != 4 or k != v or len(k) != 4 or (q[0], q[1], q[3]) != (k[0], k[1], k[3]) or 0 in q:
        return None
    (batch, heads, queries, width), keys = q, k[2]
    if width % 16 or not 0 < width <= _MOST_WIDTH or not _LEAST_KEYS <= keys <= _MOST_KEYS:
        return None
    if any(strides[3] != 1 for strides in (q_strides, k_strides, v_strides)):
        return None
    scale = width**-0.5 if scale is None else scale
    if not 0 < scale <= 1:
        return None
    three = ctypes.c_int64 * 3
    strides = (three(*s[:3]) for s in (q_strides, k_strides, v_strides))
    return ctypes.byref(Attention(batch, heads, queries, keys, width, *strides, scale))
