"""The packed file, a safetensors file without the architecture: `save_and_load` writes and reads it.

`architecture` matches it with a float model, `metadata` defines its JSON, and `tensor_file` its bytes.
"""
