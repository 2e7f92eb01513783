"""The packed file: a safetensors file that holds a packed network without its architecture.

`saving` writes it, and `loading` reads it and refuses damaged files. `architecture` matches it with a float model.
`layer_spec` and `metadata` define its JSON, and `tensor_file` its bytes.
"""
