"""The demo: float and binary networks on real data, a table, pictures, and a file that is proved."""
