"""Weights of whole numbers as the kernels read them: sixteen outputs together, with what is to be subtracted."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

BLOCK, STEP = 16, 64


def int8_panels(levels: Tensor, dilation: Sequence[int] = (1, 1)) -> Tensor:
    """The panels of a weight within ±127, int8 of shape (⌈out/16⌉, bytes), for `int8_linear` and `int8_conv2d`.

    `levels` is int8, (out, in) or (out, in, height, width); `dilation` is that of the convolution. ValueError for
    another shape, TypeError for another dtype.
    """
    if levels.dtype is not torch.int8:
        raise TypeError(f"a weight of whole numbers is int8; got {levels.dtype}")
    if levels.dim() not in (2, 4) or 0 in levels.shape:
        raise ValueError(f"a weight is (out, in) or (out, in, height, width); got {tuple(levels.shape)}")
    rows = levels[:, None] if levels.dim() == 2 else levels.permute(0, 2, 3, 1)
    pieces = rows.reshape(rows.shape[0], *_pieces(levels.shape, dilation))
    padding = -rows.shape[0] % BLOCK
    padded = functional.pad(pieces, (0, -pieces.shape[2] % STEP, 0, 0, 0, padding))
    blocks = padded.reshape(-1, BLOCK, padded.shape[1] * padded.shape[2] // 4, 4).transpose(1, 2).flatten(1)
    totals = 128 * padded.sum((1, 2), dtype=torch.int32).view(-1, BLOCK)
    return torch.cat([blocks, totals.view(torch.int8)], 1)


def int8_panels_shape(weight: Sequence[int], dilation: Sequence[int] = (1, 1)) -> tuple[int, int]:
    """The shape of the panels of a weight (out, in) or (out, in, height, width)."""
    count, length = _pieces(weight, dilation)
    steps = count * -(-length // STEP)
    return -(-weight[0] // BLOCK), steps * STEP * BLOCK + 4 * BLOCK


def _pieces(weight: Sequence[int], dilation: Sequence[int]) -> tuple[int, int]:
    """How many pieces of an image a patch is, and their length: rows of the kernel, or taps that lie apart."""
    if len(weight) == 2:
        return 1, weight[1]
    _, channels, height, width = weight
    return (height, width * channels) if dilation[1] == 1 or width == 1 else (height * width, channels)
