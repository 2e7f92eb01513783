"""Packed layers: layers that hold their weight in 1 or 8 bits an entry.

`forms` lists every kind of layer. `base` prepacks the weight for the kernels; `one_bit` and `int8` compute.
"""
