"""Packed layers: layers that hold their weight in 1 or 8 bits an entry."""
