"""GGUF, the files of llama.cpp: binary matrices in blocks of 128 signs and one scale."""

from proxconnect.export.gguf.writing import to_gguf

__all__ = ["to_gguf"]
