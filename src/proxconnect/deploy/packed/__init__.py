"""Packed models: 1 bit a weight in memory and in the file."""

from proxconnect.deploy.packed.file import PackedFileError, load, save
from proxconnect.deploy.packed.halves import Vectors
from proxconnect.deploy.packed.kernels import Inputs
from proxconnect.deploy.packed.layers import PackedLayer
from proxconnect.deploy.packed.packing import pack
from proxconnect.deploy.packed.remainder import Remainder
from proxconnect.kernels.bits import pack_bits, unpack_bits

__all__ = [
    "Inputs", "PackedFileError", "PackedLayer", "Remainder", "Vectors", "load", "pack", "pack_bits", "save",
    "unpack_bits",
]  # fmt: skip
