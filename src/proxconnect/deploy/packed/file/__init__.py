"""The packed file: a safetensors file that holds a packed network without its architecture."""
