"""Check the tensors that kernels take, and convert arguments to those of the C functions."""

import torch
from torch import Tensor

from proxconnect._support.arguments import require_type
from proxconnect.kernels.accumulator import Accumulator

CPU = torch.device("cpu")
"""The device of all outputs, whatever the default device of torch is."""

WORD = 64
"""The entries of a word. Kernels take groups of entries that are multiples of it."""

BEYOND = 80
"""The entries after those of all channels in vectors that kernels read where they are, because they read whole ones."""

SCALED = 32
"""The outputs whose scales of a group of inputs are adjacent, for kernels."""

_OVERFLOWS = {"wrap": 1, "saturate": 2, "cyclic": 3}

SIGNS, ROUNDED, INT8, FIXED_POINT = 2**31 - 1, 2**24, 2**17, 2**15
"""The most entries of a row or a patch for which 32 bits hold the sum: for signs times signs, inputs rounded to 8 bits
times signs, such inputs times 8-bit weights, and numbers of three bytes times each other."""


def require_entries(entries: int, most: int | None) -> None:
    """Raise ValueError unless a row or a patch has 1 to `most` entries; `most` is None for no upper bound."""
    if entries > 0 and (most is None or entries <= most):
        return
    bound = "" if most is None else f" <= {most}, so that 32 bits hold their sum"
    raise ValueError(f"a row (…, in) or a patch must have entries, 0 < in{bound}; got {entries}")


def overflow_of(accumulator: Accumulator | None) -> tuple[int, int, float]:
    """Return (overflow rule as a number, bits, slope) for C; the rule of None is 0. TypeError for another type."""
    if accumulator is None:
        return 0, 8, 1.0
    require_type(accumulator, Accumulator, "accumulator takes an Accumulator, as Accumulator(bits=8)")
    return _OVERFLOWS[accumulator.overflow], accumulator.bits, accumulator.slope


OutputFields = tuple[int, int | None, int | None, int, int | None, int | None]


def is_of_groups(scale: Tensor | None, channels: int) -> bool:
    """Return True if a scale has the shape that `group_scales` makes for so many channels."""
    return scale is not None and scale.dim() == 3 and scale.shape[::2] == (-(-channels // SCALED), SCALED)


def scale_and_bias(scale: Tensor | None, bias: Tensor | None, columns: int = 0) -> OutputFields:
    """Return the last six fields of a `COutput`, which hold addresses: keep both tensors alive.

    If `columns` are given, the scale is that of `group_scales` for a weight of so many columns.
    """
    bias_at = None if bias is None else bias.data_ptr()
    if scale is None:
        return 0, None, bias_at, 0, None, None
    if columns:
        floats, halves = (None, scale.data_ptr()) if scale.dtype is torch.float16 else (scale.data_ptr(), None)
        return 0, None, bias_at, columns // scale.shape[1], floats, halves
    return scale.numel(), scale.data_ptr(), bias_at, 0, None, None


def as_rows(input: Tensor) -> Tensor:
    """Return a tensor (…, in) as (rows, in) whose rows are contiguous in memory; copy it only if needed."""
    rows = input if input.dim() == 2 else input.reshape(-1, input.shape[-1])
    return rows if rows.stride(1) == 1 or rows.shape[1] == 1 else rows.contiguous()


def contiguous(values: Tensor | None) -> Tensor | None:
    """Return a contiguous tensor of the same values; None for None."""
    return None if values is None else values.contiguous()


def require_weight(
    panels: Tensor, shape: tuple[int, ...], channels: int, scale: Tensor | None, bias: Tensor | None,
    dtype: torch.dtype = torch.int64, columns: int | None = None,
) -> None:  # fmt: skip
    """Raise unless a prepacked weight has this shape and dtype, contiguous on the CPU, and its scale and bias fit it.

    The scale must have 1 or `channels` entries, the bias `channels`, both float32 on the CPU; either may be None. If
    `columns` are given, the scale may be that of `group_scales` for so many columns.
    """
    require_type(panels, Tensor, "panels must be a tensor")
    if panels.dtype is not dtype or not panels.is_cpu or not panels.is_contiguous():
        name = str(dtype).removeprefix("torch.")
        raise TypeError(f"panels must be contiguous {name} on the CPU; got {panels.dtype} on {panels.device}")
    if channels < 1:
        raise ValueError(f"a weight has at least 1 output; got {channels}")
    if panels.shape != shape:
        raise ValueError(
            f"the panels of such a weight are {shape}; got {tuple(panels.shape)}: make them by proxconnect.kernels."
            "panels, conv_panels, patch_panels or int8_panels"
        )
    if scale is not None and columns is not None and is_of_groups(scale, channels):
        _require_group_scales(scale, columns)
    elif scale is not None:
        require_vector("scale", scale, 1, channels)
    if bias is not None:
        require_vector("bias", bias, channels)


def _require_group_scales(scale: Tensor, columns: int) -> None:
    if scale.dtype is not torch.float16 or not scale.is_cpu:
        require_float32("scale", scale)
    groups = scale.shape[1]
    if not groups or columns % (groups * WORD) or not scale.is_contiguous():
        raise ValueError(
            f"scales of groups must be contiguous, for groups of {columns} columns that are multiples of {WORD}; got "
            f"{tuple(scale.shape)}: make them by proxconnect.kernels.group_scales"
        )


def require_vector(name: str, values: Tensor, *counts: int) -> None:
    """Raise unless `values`, called `name` in messages, are float32 on the CPU, in one of these numbers of entries."""
    require_float32(name, values)
    if values.numel() not in counts:
        raise ValueError(f"{name} must have {' or '.join(map(str, counts))} entries; got {tuple(values.shape)}")


def resolved(name: str, values: Tensor) -> Tensor:
    """Return `values` with a lazy negation carried out in memory; TypeError, with `name`, unless float32 on the CPU."""
    if values.dtype is not torch.float32 or not values.is_cpu:
        require_float32(name, values)
    return values.resolve_neg() if values.is_neg() else values


def require_float32(name: str, values: Tensor) -> None:
    """Raise TypeError unless `values` are float32 on the CPU; `name` is their name in the message."""
    require_type(values, Tensor, f"{name} must be a float32 tensor on the CPU")
    if values.dtype is not torch.float32 or not values.is_cpu:
        raise TypeError(f"{name} must be float32 on the CPU; got {values.dtype} on {values.device}")
