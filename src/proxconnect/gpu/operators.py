"""Register the kernels for GPUs as the operators of `proxconnect.kernels` for tensors on CUDA devices.

An operator takes the same prepacked weights there as on a CPU, and inputs in float32, float16 or bfloat16, and returns
the dtype of its input. Sums are added in float32, or exactly for signs, and in the same order in every call.
"""

from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.library import Library

from proxconnect._support.installation import pip_install
from proxconnect.gpu.availability import has_triton
from proxconnect.kernels.arguments import as_rows, contiguous, is_of_groups, require_entries
from proxconnect.kernels.geometry import out_size, require_convolvable
from proxconnect.kernels.operators import OPERATORS
from proxconnect.kernels.prepacked import panels_shape

if TYPE_CHECKING:
    from proxconnect.gpu import launch

_DTYPES = torch.float32, torch.float16, torch.bfloat16
_MOST = 2**31 - 1024
"""The most rows, output pixels or columns, which kernels count in 32 bits, up to the end of a tile."""


def _weight_only_linear(
    input: Tensor, panels: Tensor, out_features: int, scale: Tensor | None, bias: Tensor | None,
    instruction_set: str | None,
) -> Tensor:  # fmt: skip
    _require_triton()
    from proxconnect.gpu import launch

    rows = _rows(input)
    weight = _weight(input, panels, out_features, rows.shape[1], scale, bias, instruction_set, takes_groups=True)
    with torch.cuda.device(input.device):
        return launch.multiply(rows, weight).view(*input.shape[:-1], out_features)


def _binary_linear(
    input: Tensor, panels: Tensor, out_features: int, scale: Tensor | None, bias: Tensor | None, overflow: int,
    bits: int, slope: float, instruction_set: str | None,
) -> Tensor:  # fmt: skip
    _require_triton()
    from proxconnect.gpu import launch

    rows = _rows(input)
    weight = _weight(input, panels, out_features, rows.shape[1], scale, bias, instruction_set)
    held = launch.Held(overflow, bits, slope)
    with torch.cuda.device(input.device):
        return launch.multiply_signs(rows, weight, held).view(*input.shape[:-1], out_features)


def _weight_only_conv2d(
    input: Tensor, panels: Tensor, weight_shape: list[int], stride: list[int], padding: list[int], dilation: list[int],
    groups: int, scale: Tensor | None, bias: Tensor | None, instruction_set: str | None,
) -> Tensor:  # fmt: skip
    _require_triton()
    from proxconnect.gpu import launch

    geometry = _geometry(input, (weight_shape, stride, padding, dilation, groups, 0))
    columns = prod(weight_shape[1:])
    weight = _weight(input, panels, weight_shape[0], columns, scale, bias, instruction_set)
    with torch.cuda.device(input.device):
        return launch.convolve(input, weight, geometry)


def _binary_conv2d(
    input: Tensor, panels: Tensor, weight_shape: list[int], stride: list[int], padding: list[int], dilation: list[int],
    groups: int, padding_value: int, scale: Tensor | None, bias: Tensor | None, overflow: int, bits: int, slope: float,
    instruction_set: str | None,
) -> Tensor:  # fmt: skip
    _require_triton()
    from proxconnect.gpu import launch

    geometry = _geometry(input, (weight_shape, stride, padding, dilation, groups, padding_value))
    columns = prod(weight_shape[1:])
    weight = _weight(input, panels, weight_shape[0], columns, scale, bias, instruction_set)
    held = launch.Held(overflow, bits, slope)
    with torch.cuda.device(input.device):
        return launch.convolve_signs(input, weight, held, geometry, padding_value)


def _require_triton() -> None:
    """Raise RuntimeError unless triton is installed, which the launchers import."""
    if not has_triton():
        command = pip_install("gpu")
        raise RuntimeError(f"the kernels for GPUs need triton, which is not installed; run: {command}")


def _rows(input: Tensor) -> Tensor:
    """Return an input (…, in) as (rows, in), contiguous each; raise unless sizes and dtype are those of the kernels."""
    columns = input.shape[-1] if input.dim() else 0
    require_entries(columns, _MOST)
    _require_input(input, input.numel() // columns)
    return as_rows(input)


def _geometry(input: Tensor, how: tuple[Any, ...]) -> "launch.Geometry":
    """Return the geometry of a convolution in one group; ValueError unless `how` fits the input."""
    require_convolvable(input.shape, how)
    weight, stride, padding, dilation, groups, _ = how
    require_entries(prod(weight[1:]), _MOST)
    if groups != 1:
        raise ValueError(f"on a GPU convolutions have one group; got {groups}: compute with torch.nn.functional.conv2d")
    _require_input(input, input.shape[0] * prod(out_size(input.shape, weight[2:], stride, padding, dilation)))
    from proxconnect.gpu import launch

    return launch.Geometry(*map(tuple, (weight, stride, padding, dilation)))


def _require_input(input: Tensor, rows: int) -> None:
    if input.dtype not in _DTYPES:
        raise TypeError(f"input must be float32, float16 or bfloat16 on a GPU; got {input.dtype}")
    if rows > _MOST:
        raise ValueError(f"an input has at most {_MOST} rows or output pixels; got {rows}: split the batch")


def _weight(
    input: Tensor, panels: Tensor, outputs: int, columns: int, scale: Tensor | None, bias: Tensor | None,
    instruction_set: str | None, *, takes_groups: bool = False,
) -> "launch.Weight":  # fmt: skip
    """Return the weight as the launchers take it; raise unless its tensors fit each other and the input's device."""
    if instruction_set is not None:
        raise ValueError(f"instruction sets are those of CPUs: pass None on a GPU; got {instruction_set!r}")
    named = {"panels": panels, "scale": scale, "bias": bias}
    for name, tensor in named.items():
        if tensor is not None and tensor.device != input.device:
            raise TypeError(f"{name} must be on {input.device}, as the input is; got {tensor.device}")
        if tensor is not None and name != "panels" and tensor.dtype not in _DTYPES:
            raise TypeError(f"{name} must be float32, float16 or bfloat16 on a GPU; got {tensor.dtype}")
    if panels.dtype is not torch.int64 or not panels.is_contiguous():
        raise TypeError(f"panels must be contiguous int64; got {panels.dtype}")
    if outputs < 1 or panels.shape != panels_shape(outputs, columns):
        raise ValueError(
            f"the panels of a weight ({outputs}, {columns}) are {panels_shape(outputs, columns)}; got "
            f"{tuple(panels.shape)}: make them by proxconnect.kernels.panels, or patch_panels for a convolution"
        )
    if takes_groups and is_of_groups(scale, outputs):
        assert scale is not None
        if not scale.shape[1] or columns % (64 * scale.shape[1]) or not scale.is_contiguous():
            raise ValueError(
                f"scales of groups must be contiguous, for groups of {columns} columns that are multiples of 64; got "
                f"{tuple(scale.shape)}: make them by proxconnect.kernels.group_scales"
            )
    elif scale is not None:
        _require_entries("scale", scale, 1, outputs)
        scale = scale.flatten()
    if bias is not None:
        _require_entries("bias", bias, outputs)
    from proxconnect.gpu import launch

    return launch.Weight(panels, outputs, columns, contiguous(scale), contiguous(bias))


def _require_entries(name: str, values: Tensor, *counts: int) -> None:
    if values.numel() not in counts:
        raise ValueError(f"{name} must have {' or '.join(map(str, counts))} entries; got {tuple(values.shape)}")


_LIBRARY = Library("proxconnect", "IMPL")

for _implementation in (_weight_only_linear, _binary_linear, _weight_only_conv2d, _binary_conv2d):
    _LIBRARY.impl(OPERATORS[_implementation.__name__[1:]], _implementation, "CUDA")
