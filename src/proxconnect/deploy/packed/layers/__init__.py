"""Packed layers: layers that hold their weight in 1 or 8 bits an entry.

`forms` lists every kind of layer. `base` holds the weight and prepacks it for the kernels. `one_bit` and `int8` compute
with torch; `by_kernels` and `int8_products` use the kernels.
"""
