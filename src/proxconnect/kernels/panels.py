"""The layout of a weight that the kernels read."""

import torch
from torch import Tensor

from proxconnect.packed.bits import unpack_bits

PANEL = 8


def panels(bits: Tensor, rows: int, columns: int) -> Tensor:
    """The signs of a (rows, columns) weight, from `pack_bits`, as int64 words (⌈rows/8⌉, ⌈columns/64⌉, 8).

    Entry [p, j, i] holds columns 64j to 64j + 63 of row 8p + i, the first in the lowest bit; what is beyond is 0.
    """
    words = -(-columns // 64)
    if columns % 64 == 0:
        by_row = bits.view(torch.int64).view(rows, words)
    else:
        signs = unpack_bits(bits, (rows, columns), torch.int8) > 0
        padded = torch.zeros(rows, words * 64, dtype=torch.bool)
        padded[:, :columns] = signs
        places = 2 ** torch.arange(8, dtype=torch.uint8)
        by_row = (padded.view(-1, 8) * places).sum(1, dtype=torch.uint8).view(torch.int64).view(rows, words)
    whole = torch.zeros(-(-rows // PANEL) * PANEL, words, dtype=torch.int64)
    whole[:rows] = by_row
    return whole.view(-1, PANEL, words).transpose(1, 2).contiguous()
