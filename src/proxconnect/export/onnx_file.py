"""ONNX files of packed models, for any ONNX runtime."""

import os
from typing import Any

from torch import nn

from proxconnect._support.atomic import replacing
from proxconnect.export.onnx_graph import onnx_graph
from proxconnect.export.tracing import ExportError

MOST_BYTES = 2**31 - 1
"""The most bytes of one ONNX file."""


def to_onnx(packed: nn.Module, example: Any, path: str | os.PathLike[str], *, any_batch: bool = True) -> None:
    """Write a packed model as an ONNX file of opset 18. If that fails, the old file stays.

    The file is about as large as the packed one. Its answers equal those of `packed` up to the order of a float sum, by
    which an activation near 0 may get the other sign. Layers with binary inputs take NaN as -1.

    Args:
        packed: a packed model, returned by `proxconnect.pack` or `proxconnect.load`.
        example: an input of the model: a tensor, a tuple of arguments or a mapping of keyword arguments.
        path: the file, such as "net.onnx".
        any_batch: whether the file takes any batch size. The batch is the first dimension of every tensor in the
            example.

    Raises:
        ValueError: for a model that is not packed.
        ExportError: if `torch.export` or `torch.onnx` cannot take the model.
        MissingExtraError: without `pip install 'proxconnect[export]'`.
        OSError: if `path` cannot be written.
    """
    write(onnx_graph(packed, example, any_batch=any_batch), path)


def write(model: Any, path: str | os.PathLike[str]) -> None:
    """Write an `onnx_ir.Model` to a file; ExportError if it is too large."""
    import onnx_ir

    proto = onnx_ir.to_proto(model)
    if proto.ByteSize() > MOST_BYTES:
        raise ExportError(f"the ONNX file would have {proto.ByteSize():,} bytes, and protobuf allows {MOST_BYTES:,}: "
                          "make more layers binary, or export in parts")  # fmt: skip
    with replacing(path) as temporary:
        temporary.write_bytes(proto.SerializeToString())
