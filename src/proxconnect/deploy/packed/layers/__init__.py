"""Packed layers, which hold their weight in 1 or 8 bits an entry: `forms` lists every kind."""
