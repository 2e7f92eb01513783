"""Blocks of GGUF's type Q1_0: a float16 scale, then the signs of 128 consecutive inputs, in 18 bytes.

Sign j is bit j % 8 (of value 2^(j % 8)) of byte j // 8, and 1 is +1, as in `proxconnect.kernels.bits`.
"""

from typing import Any

import torch
from torch import Tensor

from proxconnect.export.portable import ExportError

SIGNS = 128
"""The inputs that share a block."""

_SIGN_BYTES = SIGNS // 8
BYTES = 2 + _SIGN_BYTES
"""The bytes of a block."""


def block_scales(scale: Tensor, rows: int, columns: int) -> Tensor:
    """Return the scale of each block of a weight (rows, columns) as a tensor (rows, columns / 128).

    Args:
        scale: one scale, of shape (), one for each row, of shape (rows,), or one for each group of inputs in a row, of
            shape (rows, columns / group size).
        rows: the outputs of the layer.
        columns: its inputs.

    Raises:
        ExportError: if 128 does not divide the inputs or the group size.
    """
    if columns % SIGNS:
        raise ExportError(f"it has {columns} inputs, and Q1_0 holds blocks of {SIGNS}: use sizes that divide by "
                          f"{SIGNS}, or keep the layer float, with binarize(keep=...)")  # fmt: skip
    if scale.dim() < 2:
        return scale.reshape(-1, 1).expand(rows, columns // SIGNS)
    group = columns // scale.shape[1]
    if group % SIGNS:
        raise ExportError(f"it has a scale for each group of {group} inputs, and Q1_0 has one for {SIGNS}: train it "
                          f"with groups of {SIGNS} or a multiple")  # fmt: skip
    return scale.repeat_interleave(group // SIGNS, dim=1)


def to_blocks(bits: Tensor, scales: Tensor) -> Any:
    """Return a weight in blocks, as a numpy array of uint8 (rows, columns / 128 · 18).

    Args:
        bits: the signs as `pack_bits` lays them out, uint8 (rows · columns / 8,).
        scales: the scale of each block, (rows, columns / 128), which is rounded to float16.

    Raises:
        ExportError: if a scale is beyond float16.
    """
    rows, blocks = scales.shape
    halves = scales.to(torch.float16)
    if not bool(halves.isfinite().all()):
        raise ExportError("a scale exceeds 65504, the most that float16 holds: divide the latents by a number")
    head = halves.contiguous().cpu().numpy().astype("<f2").view("u1").reshape(rows, blocks, 2)
    both = torch.cat([torch.from_numpy(head), bits.cpu().view(rows, blocks, _SIGN_BYTES)], dim=2)
    return both.view(rows, blocks * BYTES).numpy()


def from_blocks(blocks: Any, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Return `bits` and `scales`, in float32, as `to_blocks` takes them, from its result for (rows, columns)."""
    each = blocks.reshape(rows, columns // SIGNS, BYTES)
    scales = torch.from_numpy(each[..., :2].copy().view("<f2")[..., 0].astype("f4"))
    return torch.from_numpy(each[..., 2:].copy()).flatten(), scales
