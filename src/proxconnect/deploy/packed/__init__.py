"""Packed models: 1 bit a weight in memory and in the file.

`pack_layers` and `load_layers` make models that run layer by layer. `proxconnect.pack` and `proxconnect.load` also fuse
the layers.
"""

from proxconnect.deploy.packed.file.save_and_load import PackedFileError, load_layers, save
from proxconnect.deploy.packed.half_vectors import Vectors
from proxconnect.deploy.packed.layers.one_bit import Inputs, PackedLayer
from proxconnect.deploy.packed.packing import Remainder, pack_layers
from proxconnect.kernels.bits import pack_bits, unpack_bits

__all__ = [
    "Inputs", "PackedFileError", "PackedLayer", "Remainder", "Vectors", "load_layers", "pack_bits", "pack_layers",
    "save", "unpack_bits",
]  # fmt: skip
