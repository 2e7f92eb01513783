"""ONNX files of packed models in operators of the standard alone, and with one bit a weight on disk.

A weight is the initializer of 8 signs a byte that the packed layer holds. The graph looks each byte up in a table of
its signs, which runtimes do once, when they load the file, as it depends on no input.
"""

import os
from math import prod
from typing import Any

import torch
from torch import nn

from proxconnect.export.portable import signs_of_bytes
from proxconnect.export.writing import Dialect, require_onnx, translated, write


def to_onnx(packed: nn.Module, example: Any, path: str | os.PathLike[str], *, any_batch: bool = True) -> None:
    """Write a packed model as an ONNX file of opset 18, whole or not at all, for any ONNX runtime.

    The file is about as large as the packed one. Its answers are those of `packed` up to the order of a float sum; an
    activation that is within that of 0 may get the other sign. NaN is -1 to layers with binary inputs.

    Args:
        packed: what `proxconnect.pack` or `proxconnect.load` made.
        example: what the model takes: a tensor, a tuple of arguments or a mapping of keyword arguments.
        path: the file, as net.onnx.
        any_batch: whether the first dimension of every tensor in the example is the batch, whose size is left open.

    Raises:
        ValueError: for a model that is not packed. ExportError: where `torch.export` or `torch.onnx` cannot take it.
            MissingExtraError: without `pip install 'proxconnect[export]'`. OSError: where `path` cannot be written.
    """
    require_onnx()
    write(translated(packed, example, dialect(), any_batch=any_batch), path)


def dialect() -> Dialect:
    """Signs and weights in operators of the standard."""
    import onnx_ir
    from onnxscript import opset18

    op: Any = opset18  # its types know no values of a graph that is being made

    def signs(input: Any) -> Any:
        zero, one, minus_one = (op.Constant(value=onnx_ir.tensor([value], input.dtype)) for value in (0.0, 1.0, -1.0))
        return op.Where(op.GreaterOrEqual(input, zero), one, minus_one)

    def unpacked(bits: Any, scale: Any, shape: list[int]) -> Any:
        rows = op.Gather(op.Constant(value=onnx_ir.tensor(signs_of_bytes().numpy())), op.Cast(bits, to=_INT32))
        flat = op.Reshape(rows, op.Constant(value_ints=[-1]))
        if prod(shape) % 8:
            flat = op.Slice(flat, op.Constant(value_ints=[0]), op.Constant(value_ints=[prod(shape)]))
        weight = op.Reshape(flat, op.Constant(value_ints=list(shape)))
        return op.Cast(weight, to=_FLOAT) if scale is None else op.Mul(op.Cast(weight, to=int(scale.dtype)), scale)

    return {torch.ops.proxconnect.signs.default: signs, torch.ops.proxconnect.unpacked.default: unpacked}


_FLOAT, _INT32 = 1, 6
"""What ONNX calls the types."""
