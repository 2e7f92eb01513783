"""The packed file, a safetensors file: written and read by `save_and_load`, without the architecture."""
