"""Functions of one real variable: checked callables, smooth pieces of them, and fast tables."""
