"""The kernels as operators of torch, which torch.compile and torch.export take as they are."""

import ctypes

import torch
from torch import Tensor
from torch.library import Library

from proxconnect.kernels.library import NUMBERS, Output, instruction_sets, library
from proxconnect.kernels.panels import PANEL
from proxconnect.layers.accumulator import Accumulator

_OVERFLOWS = {None: 0, "wrap": 1, "saturate": 2, "cyclic": 3}

_operators = Library("proxconnect", "DEF")
_operators.define(
    "binary_linear(Tensor input, Tensor panels, int out_features, Tensor? scale, Tensor? bias, int overflow, int bits, "
    "float slope, str? instruction_set) -> Tensor"
)


def binary_linear(
    input: Tensor,
    panels: Tensor,
    out_features: int,
    scale: Tensor | None = None,
    bias: Tensor | None = None,
    accumulator: Accumulator | None = None,
    instruction_set: str | None = None,
) -> Tensor:
    """sign(input) times a weight of signs, exactly, its sums held by an accumulator, times a scale, plus a bias.

    (…, in) → (…, out), float32 on the CPU, where a row that holds NaN becomes NaN. No gradient goes through.

    Args:
        input: float32, on the CPU.
        panels: of the weight, as `panels()` makes them.
        out_features: the rows of the weight.
        scale: float32, one for each output or one for all.
        bias: float32, one for each output.
        accumulator: what holds the sums; None for one that never overflows.
        instruction_set: one of `instruction_sets()`, by default the best.

    Raises:
        ValueError: shapes that do not fit, an instruction set that this machine lacks. TypeError: another dtype or
            device. RuntimeError: the kernels were not built.
    """
    overflow, bits, slope = 0, 8, 1.0
    if accumulator is not None:
        overflow, bits, slope = _OVERFLOWS[accumulator.overflow], accumulator.bits, accumulator.slope
    output: Tensor = torch.ops.proxconnect.binary_linear(
        input, panels, out_features, scale, bias, overflow, bits, slope, instruction_set
    )
    return output


def _binary_linear(
    input: Tensor, panels: Tensor, out_features: int, scale: Tensor | None, bias: Tensor | None, overflow: int,
    bits: int, slope: float, instruction_set: str | None,
) -> Tensor:  # fmt: skip
    _require_fitting(input, panels, out_features, scale, bias)
    loaded, number = library(), _number_of(instruction_set)
    assert loaded is not None  # or there were no number
    columns = input.shape[-1]
    rows = input if input.dim() == 2 else input.reshape(-1, columns)
    rows = rows if rows.stride(1) == 1 or columns == 1 else rows.contiguous()
    scale, bias = (None if values is None else values.contiguous() for values in (scale, bias))
    how = Output(
        overflow, bits, slope, 0 if scale is None else scale.numel(),
        None if scale is None else scale.data_ptr(), None if bias is None else bias.data_ptr(),
    )  # fmt: skip
    output = torch.empty(*input.shape[:-1], out_features)
    loaded.px_binary_linear(
        number, rows.data_ptr(), len(rows), columns, rows.stride(0), panels.data_ptr(), out_features,
        ctypes.byref(how), output.data_ptr(), torch.get_num_threads(),
    )  # fmt: skip
    return output


_operators.impl("binary_linear", _binary_linear, "CPU")


def _fake_binary_linear(input: Tensor, panels: Tensor, out_features: int, *rest: object) -> Tensor:
    return input.new_empty(*input.shape[:-1], out_features)


torch.library.register_fake("proxconnect::binary_linear", _fake_binary_linear, lib=_operators)


def _number_of(instruction_set: str | None) -> int:
    known = instruction_sets()
    if not known:
        raise RuntimeError(
            "proxconnect was installed without its kernels: install it again where a C++17 compiler is, or compute by "
            "torch"
        )
    if instruction_set is not None and instruction_set not in known:
        raise ValueError(f"this machine runs {', '.join(known)}; got instruction_set={instruction_set!r}")
    return NUMBERS[known[-1] if instruction_set is None else instruction_set]


def _require_fitting(
    input: Tensor, panels: Tensor, out_features: int, scale: Tensor | None, bias: Tensor | None
) -> None:
    if input.dim() == 0 or input.shape[-1] == 0:
        raise ValueError(f"input must be (…, in) with in > 0; got {tuple(input.shape)}")
    tensors = {"input": input, "scale": scale, "bias": bias}
    for name, values in tensors.items():
        if values is not None and (values.dtype != torch.float32 or values.device.type != "cpu"):
            raise TypeError(f"{name} must be float32 on the CPU; got {values.dtype} on {values.device}")
    shape = (-(-out_features // PANEL), -(-input.shape[-1] // 64), PANEL)
    if panels.dtype != torch.int64 or panels.device.type != "cpu" or not panels.is_contiguous():
        raise TypeError(f"panels must be contiguous int64 on the CPU; got {panels.dtype} on {panels.device}")
    if out_features < 1 or panels.shape != shape:
        raise ValueError(
            f"panels of {out_features} x {input.shape[-1]} signs are {shape}; got {tuple(panels.shape)}: make them by "
            "proxconnect.kernels.panels(bits, rows, columns)"
        )
    if scale is not None and scale.numel() not in (1, out_features):
        raise ValueError(f"scale must have 1 or {out_features} entries; got {tuple(scale.shape)}")
    if bias is not None and bias.numel() != out_features:
        raise ValueError(f"bias must have {out_features} entries; got {tuple(bias.shape)}")
