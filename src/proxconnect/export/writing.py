"""From a packed model to an ONNX file, in one dialect or another."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from proxconnect._support import extras
from proxconnect._support.atomic import replacing
from proxconnect.deploy.packed.half_vectors import as_half, vectors_of
from proxconnect.export.portable import portable
from proxconnect.export.tracing import ExportError, traced

OPSET = 18
"""The version of the standard that files are of."""

MOST_BYTES = 2**31 - 1
"""What one ONNX file can hold."""

_MOST_FOLDED = 64
"""The entries of a constant that may be computed beforehand: those of shapes, but not the weights that bits make."""

Dialect = Mapping[Any, Callable[..., Any]]
"""How the operators are written that torch's exporter does not know."""


def translated(packed: nn.Module, example: Any, dialect: Dialect, *, any_batch: bool) -> Any:
    """The `onnx_ir.Model` of a packed model in a dialect; ExportError where there is none."""
    program = traced(portable(packed), example, any_batch=any_batch)
    try:
        written = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, optimize=False, verbose=False,
            custom_translation_table=dict(dialect),
        )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(f"torch.onnx cannot write {type(packed).__name__}: {str(error).splitlines()[0]}") from error
    assert written is not None
    _simplify(written.model)
    if vectors_of(packed) == "float16":
        _store_halves(written.model)
    return written.model


def write(model: Any, path: str | os.PathLike[str]) -> None:
    """Write an `onnx_ir.Model` to a file, whole or not at all; ExportError for one that is too large."""
    import onnx_ir

    proto = onnx_ir.to_proto(model)
    if proto.ByteSize() > MOST_BYTES:
        raise ExportError(f"the ONNX file would have {proto.ByteSize():,} bytes, and protobuf allows {MOST_BYTES:,}: "
                          "make more layers binary, or export in parts")  # fmt: skip
    with replacing(path) as temporary:
        temporary.write_bytes(proto.SerializeToString())


def require_onnx() -> None:
    """MissingExtraError unless torch's exporter has what it needs."""
    extras.require("onnx", "export")
    extras.require("onnxscript", "export")


def _simplify(model: Any) -> None:
    """Compute what depends on shapes alone, store each constant once, and nothing that no runtime reads."""
    from onnx_ir.passes import common
    from onnxscript import optimizer

    optimizer.optimize_ir(model, input_size_limit=_MOST_FOLDED, output_size_limit=_MOST_FOLDED)
    common.ClearMetadataAndDocStringPass()(model)
    common.RemoveUnusedNodesPass()(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.DeduplicateInitializersPass(size_limit=4096)(model)


def _store_halves(model: Any) -> None:
    """Store vectors in 16 bits where that changes no value; the graph makes floats of them."""
    import onnx_ir

    for name, floats in list(model.graph.initializers.items()):
        tensor = torch.from_numpy(floats.const_value.numpy().copy())
        half = as_half(tensor) if tensor.dtype is torch.float32 else None
        if half is None or half.numel() < 2 or floats.is_graph_output():
            continue
        stored = onnx_ir.Value(name=f"{name}.half", const_value=onnx_ir.tensor(half.numpy(), name=f"{name}.half"))
        cast = onnx_ir.node("Cast", [stored], {"to": onnx_ir.DataType.FLOAT})
        cast.outputs[0].name = f"{name}.float"
        onnx_ir.convenience.replace_all_uses_with(floats, cast.outputs[0])
        del model.graph.initializers[name]
        model.graph.register_initializer(stored)
        model.graph.insert_before(model.graph[0], cast)
