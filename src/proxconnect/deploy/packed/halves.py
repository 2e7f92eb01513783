"""Vectors of float32 as float16: which tensors are vectors, and which of them 16 bits hold."""

from typing import Literal

import torch
from torch import Tensor, nn

Vectors = Literal["float32", "float16"]
"""To what the vectors of float32 of a packed model are rounded."""

_NOTE = "packed_vectors"

TOLERANCE = 2.0**-10
"""How far a rounded entry may be off, relative to itself, or to the largest where one is negative."""


def is_vector(tensor: Tensor) -> bool:
    """Whether a tensor of float32 is a vector: at most one dimension is longer than 1, or it is (1, n, d).

    So are scales, biases, the tensors of norms, class tokens, and position embeddings.
    """
    long = sum(size > 1 for size in tensor.shape)
    return tensor.dtype is torch.float32 and (long <= 1 or (tensor.dim() == 3 and tensor.shape[0] == 1))


def halved(vector: Tensor) -> Tensor:
    """The nearest values that float16 has, in float32; `vector` itself where one of them is too far off.

    That is where an entry is beyond ±65504, infinite or NaN, or so small that float16 has few of its digits: in a
    vector without negative entries, which may hold variances or scales, if one is off by more than 2⁻¹⁰ of itself; in
    others, if one is off by more than 2⁻¹⁰ of the largest.
    """
    near = vector.half().float()
    size = vector.abs()
    allowed = size if not bool((vector < 0).any()) or not vector.numel() else size.max()
    return near if bool(((near - vector).abs() <= TOLERANCE * allowed).all()) else vector


def as_half(tensor: Tensor) -> Tensor | None:
    """A vector in float16, if every value stays the same, to the bit; else None."""
    if not is_vector(tensor):
        return None
    half = tensor.half()
    is_same = torch.equal(half.float().view(torch.int32), tensor.contiguous().view(torch.int32))
    return half if is_same else None


def vectors_of(model: nn.Module) -> Vectors:
    """To what the vectors of a model were rounded when it was packed."""
    vectors: Vectors = getattr(model, _NOTE, "float32")
    return vectors


def note_vectors(model: nn.Module, vectors: Vectors) -> None:
    """Let `model` say to what its vectors were rounded, so that it is saved so again."""
    setattr(model, _NOTE, vectors)


@torch.no_grad()
def halve(model: nn.Module) -> None:
    """Round every vector of `model` that a file holds, in place, to values that float16 has, where `halved` does."""
    for module in model.modules():
        kept = {name: b for name, b in module._buffers.items() if name not in module._non_persistent_buffers_set}
        for tensor in (module._parameters | kept).values():
            if tensor is not None and is_vector(tensor):
                tensor.copy_(halved(tensor))
