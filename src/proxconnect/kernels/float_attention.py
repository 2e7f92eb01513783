"""Compute attention of floats in one pass, without torch's dispatcher."""

import ctypes
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from proxconnect._support.arguments import number, require_type, whole
from proxconnect.kernels.arguments import CPU
from proxconnect.kernels.epilogue import PLANS
from proxconnect.kernels.library import NUMBERS, CAttention, has_float_kernels, instruction_sets, library

_Call = tuple[int, tuple[int, ...], CAttention]
"""The instruction set, the shape of the output, (batch, queries, heads, width), and the sizes of the inputs."""


def attention(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """Compute softmax(scale · q kᵀ) v as `scaled_dot_product_attention` does, with sums in another order.

    q is (batch, heads, queries, width), k and v are (batch, heads, keys, width). The scale is 1/√width by default.
    Returns (batch, queries, heads, width), as the next layer reads it. Errors are those of float32 sums. Gradients do
    not flow through the kernel.

    Torch computes inputs that the kernel does not support:

    - another dtype or device, or a machine without AVX2;
    - widths below 16 or above 256, fewer than 8 queries, keys of more than 2¹⁷ entries or more than 4096 keys, a scale
      outside (0, 1];
    - other shapes of four dimensions than those above, or empty ones;
    - a last dimension that is not contiguous;
    - queries and keys with inf or NaN, or so large that a score is;
    - with AMX for bfloat16 also values with inf or NaN, and entries so large that a score might come near a million.
    """
    scale = None if scale is None else number(scale, "scale")
    if q.dtype is k.dtype is v.dtype is torch.float32 and q.is_cpu and k.is_cpu and v.is_cpu and has_float_kernels():
        q, k, v = (part.resolve_neg() if part.is_neg() else part for part in (q, k, v))
        call = _plan(q.shape, k.shape, v.shape, q.stride(), k.stride(), v.stride(), scale)
        answer = _run(call, q.data_ptr(), k.data_ptr(), v.data_ptr())
        if answer is not None:
            return answer
    return functional.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2)


def attention_of_rows(qkv: Tensor, heads: int, scale: float | None = None) -> Tensor:
    """Compute `attention` of rows that hold the queries of all heads, then their keys, then their values.

    qkv is (batch, tokens, 3 · heads · width). Returns (batch, tokens, heads, width). The scale is 1/√width by default.
    Torch computes inputs that the kernel does not support. ValueError if `heads` does not fit the rows,
    or qkv has another number of dimensions.
    """
    require_type(qkv, Tensor, "qkv takes a tensor (batch, tokens, 3 · heads · width)")
    heads, scale = whole(heads, "heads"), None if scale is None else number(scale, "scale")
    batch, tokens, entries = qkv.shape
    if heads < 1 or entries % (3 * heads):
        raise ValueError(f"rows of 3 · heads · width entries are needed, heads at least 1; got {entries}, {heads}")
    if qkv.dtype is torch.float32 and qkv.is_cpu and has_float_kernels():
        qkv = qkv.resolve_neg() if qkv.is_neg() else qkv
        width, strides = entries // 3 // heads, qkv.stride()
        shape, strides = (batch, heads, tokens, width), (strides[0], width, *strides[1:])
        at, part = qkv.data_ptr(), entries // 3 * qkv.element_size()
        answer = _run(_plan(shape, shape, shape, strides, strides, strides, scale), at, at + part, at + 2 * part)
        if answer is not None:
            return answer
    q, k, v = qkv.reshape(batch, tokens, 3, heads, entries // 3 // heads).permute(2, 0, 3, 1, 4).unbind(0)
    return functional.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2)


def _run(call: _Call | None, q: int, k: int, v: int) -> Tensor | None:
    """Run the kernel on the numbers at these addresses; return None if it does not support them."""
    kernels = library()
    if call is None or kernels is None:
        return None
    instruction_set, shape, sizes = call
    y = torch.empty(shape, dtype=torch.float32, device=CPU)
    return None if kernels.px_attention(instruction_set, q, k, v, sizes, y.data_ptr(), torch.get_num_threads()) else y


@lru_cache(PLANS)
def _plan(
    q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...],
    q_strides: tuple[int, ...], k_strides: tuple[int, ...], v_strides: tuple[int, ...], scale: float | None,
) -> _Call | None:  # fmt: skip
    """Return the call for such shapes and strides of q, k and v; None if the kernel does not support them."""
    if len(q) != 4 or k != v or len(k) != 4 or (q[0], q[1], q[3]) != (k[0], k[1], k[3]) or 0 in q:
        return None
    (batch, heads, queries, width), keys = q, k[2]
    # Fewer queries leave most lanes of a vector empty. More keys exceed the second cache.
    if not 16 <= width <= 256 or queries < 8 or keys > 4096 or keys * width > 2**17:
        return None
    if any(strides[3] != 1 for strides in (q_strides, k_strides, v_strides)):
        return None
    scale = width**-0.5 if scale is None else scale
    if not 0 < scale <= 1:
        return None
    three = ctypes.c_int64 * 3
    strides = (three(*s[:3]) for s in (q_strides, k_strides, v_strides))
    sizes = CAttention(batch, heads, queries, keys, width, *strides, scale)
    return _instruction_set(width, keys), (batch, queries, heads, width), sizes


def _instruction_set(width: int, keys: int) -> int:
    """Return the number of the fastest instruction set whose kernel takes heads of this width and so many keys."""
    best = instruction_sets()[-1]
    # Fewer keys do not fill a tile of AMX, and more exceed the second cache.
    fits_tiles = width % 16 == 0 and 16 <= keys <= 1024
    return NUMBERS["avx512" if best == "amx" and not fits_tiles else best]
