"""Pack signs as bits: entry 8j + i of the flattened tensor is bit i (of value 2^i) of byte j; 1 is +1, 0 is -1."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from proxconnect._support.arguments import require_type

_GATHER = sum(1 << 56 - 7 * i for i in range(8))
"""A factor that moves bit 8i of a word of 8 bytes, each 0 or 1, to bit 56 + i."""


def byte_count(entries: int) -> int:
    """Return the number of bytes for `entries` signs, ⌈entries/8⌉."""
    return -(-entries // 8)


def pack_bits(tensor: Tensor) -> Tensor:
    """Return the signs of a tensor as bits, 8 a byte: uint8 of shape (⌈n/8⌉,), on the tensor's device.

    Entries are in C order, sign(±0) = +1, and the bits after the last entry are 0. TypeError unless the tensor is float
    or a signed integer one, ValueError for NaN.
    """
    require_type(tensor, Tensor, "a tensor is needed")
    if not tensor.dtype.is_signed or tensor.is_complex():
        raise TypeError(f"signs are those of a float or signed integer tensor; got {tensor.dtype}")
    flat = tensor.detach().flatten()
    if flat.is_floating_point() and flat.numel() and not flat.is_meta and bool(torch.aminmax(flat).min.isnan()):
        raise ValueError("NaN has no sign to pack")
    signs = torch.zeros(8 * byte_count(flat.numel()), dtype=torch.bool, device=flat.device)
    torch.ge(flat, 0, out=signs[: flat.numel()])
    return (signs.view(torch.int64) * _GATHER >> 56).to(torch.uint8)


def unpack_bits(bits: Tensor, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the signs that `pack_bits` packed as ±1 of this shape; ValueError unless `bits` has the bytes for them."""
    entries = prod(shape)
    require_bits(bits, entries)
    values, places = torch.arange(256, device=bits.device), torch.arange(8, device=bits.device)
    signs_of_byte = (((values.unsqueeze(1) >> places) & 1) * 2 - 1).to(dtype)
    return signs_of_byte.index_select(0, bits.int()).flatten().narrow(0, 0, entries).view(tuple(shape))


def require_bits(bits: Tensor, entries: int) -> None:
    """Raise unless `bits` is a tensor of the dtype and the shape that `pack_bits` returns for `entries` signs."""
    require_type(bits, Tensor, "a tensor is needed")
    if bits.dtype != torch.uint8 or bits.shape != (byte_count(entries),):
        raise ValueError(
            f"{entries} signs are {byte_count(entries)} bytes of uint8; got {bits.dtype} of shape {tuple(bits.shape)}"
        )


def pad_is_zero(bits: Tensor, entries: int) -> bool:
    """Return True if the bits after the last of `entries` signs are 0, as `pack_bits` leaves them.

    `bits` is uint8 of shape (⌈entries/8⌉,), which is not checked.
    """
    return entries % 8 == 0 or int(bits[-1]) >> entries % 8 == 0
