"""What the operators of the kernels share: their namespace in torch, how sums become outputs, and what they refuse."""

import ctypes

import torch
from torch import Tensor
from torch.library import Library

from proxconnect.kernels.absence import ADVICE, NOT_BUILT
from proxconnect.kernels.accumulator import Accumulator
from proxconnect.kernels.library import NUMBERS, Affine, Output, instruction_sets, library

operators = Library("proxconnect", "DEF")
"""`torch.ops.proxconnect`; torch.compile and torch.export take its operators as they are."""

HOW = "Tensor? scale, Tensor? bias, int overflow, int bits, float slope, str? instruction_set"
"""The last arguments of the operators whose inputs are signs."""

How = tuple[Tensor | None, Tensor | None, int, int, float, str | None]

CPU = torch.device("cpu")
"""Where the kernels write, whatever the default device of torch is."""

_OVERFLOWS = {"wrap": 1, "saturate": 2, "cyclic": 3}


def how(scale: Tensor | None, bias: Tensor | None, accumulator: Accumulator | None, instruction_set: str | None) -> How:
    """`HOW`, as values."""
    if accumulator is None:
        return scale, bias, 0, 8, 1.0, instruction_set
    if not isinstance(accumulator, Accumulator):
        raise TypeError(f"accumulator takes an Accumulator, as Accumulator(bits=8); got {type(accumulator).__name__}")
    return scale, bias, _OVERFLOWS[accumulator.overflow], accumulator.bits, accumulator.slope, instruction_set


def loaded(instruction_set: str | None) -> tuple[ctypes.CDLL, int]:
    """The library and the number of an instruction set, by default of the best.

    RuntimeError where the kernels were not built, ValueError for an instruction set that this machine lacks.
    """
    kernels, known = library(), instruction_sets()
    if kernels is None:
        raise RuntimeError(f"{NOT_BUILT}. {ADVICE}, or compute with torch")
    if instruction_set is not None and instruction_set not in known:
        raise ValueError(f"this machine runs {', '.join(known)}; got instruction_set={instruction_set!r}")
    return kernels, NUMBERS[known[-1] if instruction_set is None else instruction_set]


def output_of(scale: Tensor | None, bias: Tensor | None, overflow: int, bits: int, slope: float) -> Output:
    """The C structure; `scale` and `bias` are contiguous and must outlive it."""
    return Output(overflow, bits, slope, *_addresses(scale, bias))


def affine_of(scale: Tensor | None, bias: Tensor | None) -> Affine:
    """The C structure; `scale` and `bias` are contiguous and must outlive it."""
    return Affine(*_addresses(scale, bias))


def _addresses(scale: Tensor | None, bias: Tensor | None) -> tuple[int, int | None, int | None]:
    """How many scales there are, and where scales and biases lie."""
    scales, scale_at = (0, None) if scale is None else (scale.numel(), scale.data_ptr())
    return scales, scale_at, None if bias is None else bias.data_ptr()


def columns_of(input: Tensor) -> int:
    """The entries of a row; 0 where the input has no rows."""
    return input.shape[-1] if input.dim() else 0


def as_rows(input: Tensor) -> Tensor:
    """(…, in) → (m, in), where the entries of a row follow each other; a copy only where they do not."""
    rows = input if input.dim() == 2 else input.reshape(-1, input.shape[-1])
    return rows if rows.stride(1) == 1 or rows.shape[1] == 1 else rows.contiguous()


def beyond(input: Tensor, threshold: Tensor | None, after: int) -> Tensor:
    """input − threshold, whose sign is exact: one for all, or one for each entry of a dimension, `after` others last.

    TypeError unless the threshold is float32 on the CPU, ValueError for another number of them.
    """
    if threshold is None:
        return input
    require_float32("threshold", threshold)
    features = input.shape[-1 - after] if input.dim() > after else 1
    if threshold.numel() not in (1, features):
        raise ValueError(f"threshold must have 1 or {features} entries; got {tuple(threshold.shape)}")
    return input - threshold.reshape(-1, *(1,) * after)


def contiguous(values: Tensor | None) -> Tensor | None:
    """`values`, laid out in order."""
    return None if values is None else values.contiguous()


def require_fitting(
    input: Tensor, panels: Tensor, shape: tuple[int, ...], channels: int, scale: Tensor | None, bias: Tensor | None,
    dtype: torch.dtype = torch.int64,
) -> None:  # fmt: skip
    """Raise unless all are on the CPU, `panels` has that shape and dtype, and scale and bias fit the channels."""
    require_float32("input", input)
    require_weight(panels, shape, channels, scale, bias, dtype)


def require_weight(
    panels: Tensor, shape: tuple[int, ...], channels: int, scale: Tensor | None, bias: Tensor | None,
    dtype: torch.dtype = torch.int64,
) -> None:  # fmt: skip
    """The same without an input."""
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
    """Return the values with the sign that their memory has, a copy where torch negates them lazily.

    `z.conj().imag` is such a tensor. Operators of torch get resolved tensors from its dispatcher; call this wherever a
    kernel is called without it. Raises TypeError unless the values are float32 on the CPU.
    """
    if values.dtype is not torch.float32 or not values.is_cpu:
        require_float32(name, values)
    return values.resolve_neg() if values.is_neg() else values


def require_float32(name: str, values: Tensor) -> None:
    """Raise TypeError unless `values` are float32 on the CPU."""
    if values.dtype is not torch.float32 or not values.is_cpu:
        raise TypeError(f"{name} must be float32 on the CPU; got {values.dtype} on {values.device}")
