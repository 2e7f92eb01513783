"""The tensors that kernels take: how they are checked, and how they reach C."""

import torch
from torch import Tensor

from proxconnect.kernels.accumulator import Accumulator
from proxconnect.kernels.library import CAffine, COutput

Overflow = tuple[int, int, float]
"""What becomes of sums that overflow, by number, with the bits and the slope of an accumulator."""

CPU = torch.device("cpu")
"""Where the kernels write, whatever the default device of torch is."""

_OVERFLOWS = {"wrap": 1, "saturate": 2, "cyclic": 3}


def overflow_of(accumulator: Accumulator | None) -> Overflow:
    """Return the accumulator as C takes it. Raises TypeError for anything else."""
    if accumulator is None:
        return 0, 8, 1.0
    if not isinstance(accumulator, Accumulator):
        raise TypeError(f"accumulator takes an Accumulator, as Accumulator(bits=8); got {type(accumulator).__name__}")
    return _OVERFLOWS[accumulator.overflow], accumulator.bits, accumulator.slope


def output_of(scale: Tensor | None, bias: Tensor | None, *overflow: float) -> CAffine | COutput:
    """Return the C structure, a `COutput` if an `Overflow` is given; `scale` and `bias` must be contiguous and outlive
    it."""
    scales, scale_at = (0, None) if scale is None else (scale.numel(), scale.data_ptr())
    bias_at = None if bias is None else bias.data_ptr()
    return COutput(*overflow, scales, scale_at, bias_at) if overflow else CAffine(scales, scale_at, bias_at)


def columns_of(input: Tensor) -> int:
    """Return the entries of a row; 0 if the input has no rows."""
    return input.shape[-1] if input.dim() else 0


def as_rows(input: Tensor) -> Tensor:
    """Return (…, in) as (m, in) with the entries of a row side by side; copy only if they lie apart."""
    rows = input if input.dim() == 2 else input.reshape(-1, input.shape[-1])
    return rows if rows.stride(1) == 1 or rows.shape[1] == 1 else rows.contiguous()


def beyond(input: Tensor, threshold: Tensor | None, after: int) -> Tensor:
    """Return input − threshold, whose sign is exact.

    There is one threshold for all entries, or one for each entry of the dimension that `after` others follow. Raises
    TypeError unless they are float32 on the CPU, ValueError for another number of them.
    """
    if threshold is None:
        return input
    require_float32("threshold", threshold)
    features = input.shape[-1 - after] if input.dim() > after else 1
    if threshold.numel() not in (1, features):
        raise ValueError(f"threshold must have 1 or {features} entries; got {tuple(threshold.shape)}")
    return input - threshold.reshape(-1, *(1,) * after)


def contiguous(values: Tensor | None) -> Tensor | None:
    """Return the values, laid out in order."""
    return None if values is None else values.contiguous()


def require_weight(
    panels: Tensor, shape: tuple[int, ...], channels: int, scale: Tensor | None, bias: Tensor | None,
    dtype: torch.dtype = torch.int64,
) -> None:  # fmt: skip
    """Raise unless a prepacked weight, its scale and its bias have these shapes and dtypes, on the CPU."""
    if not isinstance(panels, Tensor):
        raise TypeError(f"panels must be a tensor; got {type(panels).__name__}")
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
    if scale is not None:
        require_float32("scale", scale)
        if scale.numel() not in (1, channels):
            raise ValueError(f"scale must have 1 or {channels} entries; got {tuple(scale.shape)}")
    if bias is not None:
        require_float32("bias", bias)
        if bias.numel() != channels:
            raise ValueError(f"bias must have {channels} entries; got {tuple(bias.shape)}")


def resolved(name: str, values: Tensor) -> Tensor:
    """Return the values with the sign that their memory has: a copy if torch negates them lazily.

    `z.conj().imag` is such a tensor. Torch's dispatcher resolves the tensors of operators; call this wherever you call
    a kernel without it. Raises TypeError unless the values are float32 on the CPU.
    """
    if values.dtype is not torch.float32 or not values.is_cpu:
        require_float32(name, values)
    return values.resolve_neg() if values.is_neg() else values


def require_float32(name: str, values: Tensor) -> None:
    """Raise TypeError unless `values` are float32 on the CPU."""
    if values.dtype is not torch.float32 or not values.is_cpu:
        raise TypeError(f"{name} must be float32 on the CPU; got {values.dtype} on {values.device}")
