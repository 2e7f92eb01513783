"""Packed layers: layers that hold their weight in 1 or 8 bits an entry.

`forms` lists every kind of layer. `one_bit` and `int8` compute with torch; `by_kernels` and `int8_products` use the
kernels, for which `prepacked` lays weights out.
"""
