"""Vectors in 16 bits: which tensors count as vectors, and which of them float16 can hold."""

from typing import Literal, cast

import torch
from torch import Tensor, nn

Vectors = Literal["float32", "float16"]
"""The dtype to which a packed model's float32 vectors are rounded."""

NOTE = "packed_vectors"
"""The attribute of a model that holds the dtype to which its vectors were rounded, for when it is saved."""

TOLERANCE = 2.0**-10
"""The largest error of a rounded entry, relative to it, or to the largest |entry| if the vector has a negative one."""


def is_vector(tensor: Tensor) -> bool:
    """Return True for a float32 tensor of shape (1, n, d), or with at most one dimension longer than 1."""
    long = sum(size > 1 for size in tensor.shape)
    return tensor.dtype is torch.float32 and (long <= 1 or (tensor.dim() == 3 and tensor.shape[0] == 1))


def halved(vector: Tensor) -> Tensor:
    """Return a vector rounded to float16 values, in float32; `vector` itself if an error would exceed `TOLERANCE`."""
    near = vector.half().float()
    size = vector.abs()  # a vector without negative entries may hold variances or scales
    allowed = size if not bool((vector < 0).any()) or not vector.numel() else size.max()
    return near if bool(((near - vector).abs() <= TOLERANCE * allowed).all()) else vector


def as_half(tensor: Tensor) -> Tensor | None:
    """Return a vector in float16 if converting it back gives the same bits, else None; None for other tensors."""
    if not is_vector(tensor):
        return None
    half = tensor.half()
    is_same = torch.equal(half.float().view(torch.int32), tensor.contiguous().view(torch.int32))
    return half if is_same else None


def vectors_of(model: nn.Module) -> Vectors:
    """Return the option `vectors` with which a packed model was made: "float32" or "float16"."""
    return cast("Vectors", getattr(model, NOTE, "float32"))
