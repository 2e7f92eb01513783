"""ONNX files of packed models: graphs in operators of the standard, which other formats rewrite; QONNX does.

A binary weight is an initializer of 8 signs a byte, the `bits` of the packed layer. The graph looks each byte up in a
table of its signs. That depends on no input, so runtimes do it once, when they load the file.
"""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from proxconnect._support import extras
from proxconnect._support.atomic import replacing
from proxconnect._support.paths import require_target
from proxconnect.deploy.packed.half_vectors import as_half, vectors_of
from proxconnect.export.portable import ExportError, portable_program
from proxconnect.kernels.bits import unpack_bits

OPSET = 18
DOMAIN = "qonnx.custom_op.general"
MOST_BYTES = 2**31 - 1
_MOST_FOLDED = 64
"""The most entries of a constant that is computed in advance: shapes are, unpacked weights are not."""

_FLOAT, _INT32 = 1, 6
"""The numbers of these types in ONNX."""


def to_onnx(packed: nn.Module, example: Any, path: str | os.PathLike[str], *, any_batch: bool = True) -> None:
    """Write a packed model as an ONNX file of opset 18. If that fails, an existing file is unchanged.

    The file is about as large as the packed one. Its outputs equal those of `packed` up to the order of float sums, by
    which an activation near 0 may get the other sign. But it keeps float inputs that `pack(inputs="int8")` rounds, and
    layers with binary inputs take NaN as -1.

    Args:
        packed: a packed model, returned by `proxconnect.pack` or `proxconnect.load`.
        example: an input of the model: a tensor, a tuple of arguments or a mapping of keyword arguments.
        path: the file, such as "net.onnx".
        any_batch: whether the file takes any batch size. The batch is the first dimension of every tensor in the
            example.

    Raises:
        ValueError: for a model that is not packed.
        TypeError: if an argument has another type.
        Exception: the model's own error, with a note, for an example that it does not take.
        ExportError: if `torch.export` or `torch.onnx` cannot take the model, or the file would exceed 2 GiB.
        MissingExtraError: if the extra `export` is not installed.
        OSError: if `path` cannot be written.
    """
    target = require_target(path, "net.onnx")
    write(onnx_graph(packed, example, any_batch=any_batch), target)


def to_qonnx(packed: nn.Module, example: Any, path: str | os.PathLike[str], *, any_batch: bool = False) -> None:
    """Write a packed model as a QONNX file. If that fails, an existing file is unchanged.

    Arguments and errors are those of `to_onnx`. By default the file takes one batch size, as tools for FPGAs do.

    A binary weight is an initializer of float ±1, followed by `BipolarQuant` with its scale. If the input is binary, it
    goes through `BipolarQuant` too, the weight has scale 1 there, and the sums are multiplied by the scale. All other
    operators are those of the ONNX standard.
    """
    target = require_target(path, "net.onnx")
    write(onnx_graph(packed, example, any_batch=any_batch, rewrite=_quantise_signs), target)


def write(model: Any, path: str | os.PathLike[str]) -> None:
    """Write an `onnx_ir.Model` to an ONNX file; if that fails, an old file stays. ExportError if it exceeds 2 GiB."""
    import onnx_ir

    proto = onnx_ir.to_proto(model)
    if proto.ByteSize() > MOST_BYTES:
        raise ExportError(f"the ONNX file would have {proto.ByteSize():,} bytes, and protobuf allows {MOST_BYTES:,}: "
                          "make more layers binary, or export in parts")  # fmt: skip
    with replacing(path) as temporary:
        temporary.write_bytes(proto.SerializeToString())


@dataclass(frozen=True)
class BinaryWeight:
    """A binary weight in an ONNX graph: the `onnx_ir.Value`s of its packed signs, scale (None for ±1) and result."""

    bits: Any
    scale: Any
    shape: list[int]
    value: Any

    def signs(self) -> Tensor:
        """Return the signs ±1 of the weight, as a float32 tensor of the weight's shape."""
        return unpack_bits(torch.from_numpy(self.bits.const_value.numpy().copy()), self.shape)


@dataclass(frozen=True)
class BinaryParts:
    """The signs of inputs and the binary weights of an ONNX graph, which a format may rewrite."""

    signs: list[tuple[Any, Any]] = field(default_factory=list)
    """For each binary input, the `onnx_ir.Value`s before and after its signs are taken."""
    weights: list[BinaryWeight] = field(default_factory=list)

    def table(self) -> dict[Any, Callable[..., Any]]:
        """Return functions that write the operators `signs` and `unpacked` in ONNX, as a mapping from the operators.

        `torch.onnx.export` takes the mapping as `custom_translation_table`, and calls a function for each use of its
        operator in the model. Each call also appends to the list `signs` or `weights` of this object.
        """
        import onnx_ir
        from onnxscript import opset18

        op: Any = opset18  # its types do not know the values of a graph

        def signs(input: Any) -> Any:
            zero, one, minus_one = (op.Constant(value=onnx_ir.tensor([v], input.dtype)) for v in (0.0, 1.0, -1.0))
            output = op.Where(op.GreaterOrEqual(input, zero), one, minus_one)
            self.signs.append((input, output))
            return output

        def unpacked(bits: Any, scale: Any, shape: list[int]) -> Any:
            table = unpack_bits(torch.arange(256, dtype=torch.uint8), (256, 8), torch.int8)
            rows = op.Gather(op.Constant(value=onnx_ir.tensor(table.numpy())), op.Cast(bits, to=_INT32))
            flat = op.Reshape(rows, op.Constant(value_ints=[-1]))
            if prod(shape) % 8:
                flat = op.Slice(flat, op.Constant(value_ints=[0]), op.Constant(value_ints=[prod(shape)]))
            signs = op.Reshape(flat, op.Constant(value_ints=list(shape)))
            value = op.Cast(signs, to=_FLOAT) if scale is None else op.Mul(op.Cast(signs, to=int(scale.dtype)), scale)
            self.weights.append(BinaryWeight(bits, scale, list(shape), value))
            return value

        return {torch.ops.proxconnect.signs.default: signs, torch.ops.proxconnect.unpacked.default: unpacked}


def onnx_graph(
    packed: nn.Module, example: Any, *, any_batch: bool, rewrite: Callable[[Any, BinaryParts], None] | None = None
) -> Any:
    """Return the `onnx_ir.Model` of a packed model, in opset 18; arguments and errors are those of `to_onnx`.

    `rewrite`, called with the model and its binary parts before it is simplified, may change it in place.
    """
    extras.require("onnx", "export")
    optimizer, common = extras.require("onnxscript.optimizer", "export"), import_module("onnx_ir.passes.common")
    program, parts = portable_program(packed, example, any_batch=any_batch), BinaryParts()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)  # torch's, about its own code
            written = torch.onnx.export(
                program, dynamo=True, opset_version=OPSET, optimize=False, verbose=False,
                custom_translation_table=parts.table(),
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(f"torch.onnx cannot write {type(packed).__name__}: {str(error).splitlines()[0]}") from error
    assert written is not None
    model = written.model
    if rewrite is not None:
        rewrite(model, parts)
    optimizer.optimize_ir(model, input_size_limit=_MOST_FOLDED, output_size_limit=_MOST_FOLDED)
    common.ClearMetadataAndDocStringPass()(model)
    common.RemoveUnusedNodesPass()(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.DeduplicateInitializersPass(size_limit=4096)(model)
    if vectors_of(packed) == "float16":
        _store_halves(model)
    return model


def _store_halves(model: Any) -> None:
    """Store vectors in 16 bits if that changes no value; the graph casts them to float32."""
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


def _quantise_signs(model: Any, parts: BinaryParts) -> None:
    """Put `BipolarQuant` in the place of each binary part."""
    import onnx_ir

    def constant(name: str, values: Tensor) -> Any:
        if name not in model.graph.initializers:
            value = onnx_ir.Value(name=name, const_value=onnx_ir.tensor(values.numpy(), name=name))
            model.graph.register_initializer(value)
        return model.graph.initializers[name]

    model.opset_imports[DOMAIN] = 1
    replaced = [(output, input, None) for input, output in parts.signs]
    replaced += [(w.value, constant(f"{w.bits.name}.signs", w.signs()), w.scale) for w in parts.weights]
    for old, input, scale in replaced:
        factor = constant("one", torch.ones(1)) if scale is None else scale
        quantised = onnx_ir.node("BipolarQuant", [input, factor], domain=DOMAIN, name=f"{old.name}.quant")
        new = quantised.outputs[0]
        new.name, new.shape, new.type = f"{old.name}.signs", old.shape, old.type
        model.graph.insert_after(old.producer(), quantised)
        onnx_ir.convenience.replace_all_uses_with(old, new)
