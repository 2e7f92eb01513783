"""The rivals of binary weights: float networks whose matrices are rounded after training to formats of llama.cpp."""

import copy

import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from torch import nn

FORMATS = ("F16", "Q8_0", "Q4_0")
"""16, 8.5 and 4.5 bits a weight."""


def rounded(network: nn.Module, name: str) -> tuple[nn.Module, int]:
    """Return a copy of the network with its matrices rounded to a format, and the bytes of all values in a file.

    Vectors have 16 bits there, and two matrices that are one take space once.
    """
    network, size, kind = copy.deepcopy(network), 0, GGMLQuantizationType[name]
    for parameter in network.parameters():
        blocks = quantize(parameter.detach().numpy(), kind if parameter.ndim > 1 else GGMLQuantizationType.F16)
        size += blocks.nbytes
        if parameter.ndim > 1:
            parameter.data = torch.from_numpy(dequantize(blocks, kind))
    return network, size
