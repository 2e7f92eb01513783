"""Launches of the quantizer's kernels on dense tensors, whose rows are contiguous and share a scale.

A curve is a number of `csrc/proxconnect.h`. Its μ is `fixed`, or if that is None the entry of a tensor on the device:
nothing waits for the device, and a captured graph takes the μ of each replay.
"""

import torch
import triton
from torch import Tensor

from proxconnect.gpu import quantizer_kernels as kernels
from proxconnect.gpu.quantizer_curves import SIGN

WIDEST = 16384
"""The most entries of a row that one program keeps: 32 in each of 512 threads."""

STEP = 4096
"""The entries of a step through a long row: 16 in each of 256 threads."""

TILE = 1024
"""The entries of an elementwise program, and the fewest of one with short rows: 8 in each of 128 threads."""


UNFUSED = {"enable_fp_fusion": False}
"""Kernels name the operations that round once, so that bits and speed do not depend on Triton's default."""


def quantize(
    latent: Tensor, curve: int, fixed: float | None, mu: Tensor | None, rows: int, is_unit: bool,
    inside: Tensor | None, statistics: Tensor | None,
) -> Tensor:  # fmt: skip
    """Return α·F(x) with x = latent/ᾱ, or (α/ᾱ)·F(x) if `is_unit`, in the layout and dtype of `latent`.

    Args:
        latent: dense, in float32, float16 or bfloat16.
        curve: the number of F.
        fixed: μ of F; None to read `mu`.
        mu: one entry, in any float dtype; None if nothing needs it.
        rows: the number of rows, with a scale each; 0 without a scale.
        is_unit: as above.
        inside: booleans in the layout of `latent`, to be filled with |x| ≤ 1, and True for NaN.
        statistics: 2·rows + 1 of float32, to be filled with the divisors of the rows, their factors of the gradient
            and, if there is a `mu`, its value; None if rows is 0 and nothing needs μ.
    """
    value, columns = torch.empty_like(latent), latent.numel() // max(rows, 1)
    with torch.cuda.device_of(latent):
        if not rows:
            kernels.quantize_entries[(_blocks(columns, TILE),)](
                latent, value, inside, statistics, mu, fixed, columns, CURVE=curve, BLOCK=TILE, num_warps=4, **UNFUSED
            )
        elif columns <= WIDEST:
            height, width = _tile(columns, WIDEST)
            kernels.quantize_rows[(_blocks(rows, height),)](
                latent, value, inside, statistics, mu, fixed, rows, columns, CURVE=curve, IS_UNIT=is_unit,
                ROWS=height, COLUMNS=width, num_warps=min(16, max(4, height * width // 512)), **UNFUSED,
            )  # fmt: skip
        else:
            _quantize_long(latent, value, curve, fixed, mu, rows, is_unit, inside, statistics)
    return value


def _quantize_long(
    latent: Tensor, value: Tensor, curve: int, fixed: float | None, mu: Tensor | None, rows: int, is_unit: bool,
    inside: Tensor | None, statistics: Tensor | None,
) -> None:  # fmt: skip
    """Quantize rows by parts: one kernel for ᾱ, one for α unless F is sign, and one for the value."""
    columns = latent.numel() // rows
    per_part = _blocks(_blocks(columns, kernels.MOST_PARTS.value), STEP) * STEP
    parts = _blocks(columns, per_part)
    programs = rows * parts
    sums = latent.new_empty(3 * programs, dtype=torch.float32)
    shape = {"BLOCK": STEP, "num_warps": 8, **UNFUSED}
    kernels.sum_magnitudes[(programs,)](latent, sums, columns, per_part, parts, **shape)
    if curve != SIGN.value:
        kernels.correlate[(programs,)](
            latent, sums, mu, fixed, programs, columns, per_part, parts, CURVE=curve, **shape
        )  # fmt: skip
    kernels.quantize_parts[(programs,)](
        latent, value, inside, statistics, sums, mu, fixed, rows, columns, per_part, parts, CURVE=curve,
        IS_UNIT=is_unit, **shape,
    )  # fmt: skip


def multiply(
    gradient: Tensor, latent: Tensor | None, inside: Tensor | None, statistics: Tensor | None, curve: int,
    fixed: float | None, rows: int,
) -> Tensor:  # fmt: skip
    """Return factor·B(x)·gradient, in the layout and dtype of `gradient`.

    Args:
        gradient: dense, in float32, float16 or bfloat16.
        latent: in the layout of `gradient`; None for a B of 0 and 1.
        inside, statistics: as `quantize` filled them.
        curve: the number of the curve whose slope is B; that of the sign if `latent` is None.
        fixed: μ of B; None to take the one in `statistics`.
        rows: as for `quantize`.
    """
    product, columns = torch.empty_like(gradient), gradient.numel() // max(rows, 1)
    height, width = _tile(columns, TILE)
    with torch.cuda.device_of(gradient):
        kernels.multiply[(_blocks(max(rows, 1), height) * _blocks(columns, width),)](
            latent, gradient, inside, statistics, product, fixed, max(rows, 1), columns, CURVE=curve,
            IS_SCALED=rows > 0, ROWS=height, COLUMNS=width, num_warps=4, **UNFUSED,
        )  # fmt: skip
    return product


def _tile(columns: int, widest: int) -> tuple[int, int]:
    """Return the rows and columns of a program's tile, powers of 2 with at least `TILE` entries."""
    width = min(triton.next_power_of_2(columns), widest)
    return max(1, TILE // width), width


def _blocks(count: int, size: int) -> int:
    """Return the number of blocks of `size` that hold `count`."""
    return -(-count // size)
