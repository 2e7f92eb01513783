"""Packed models: 1 bit a weight in memory and in the file."""

from proxconnect.bits import pack_bits, unpack_bits
from proxconnect.packed.file import PackedFileError, load, save
from proxconnect.packed.halves import Vectors
from proxconnect.packed.kernels import Inputs
from proxconnect.packed.layers import PackedLayer
from proxconnect.packed.packing import pack
from proxconnect.packed.remainder import Remainder

__all__ = [
    "Inputs", "PackedFileError", "PackedLayer", "Remainder", "Vectors", "load", "pack", "pack_bits", "save",
    "unpack_bits",
]  # fmt: skip
