"""QONNX files of packed models, as FINN and hls4ml read them: signs are `BipolarQuant`."""

import os
from typing import Any

import torch
from torch import nn

from proxconnect.export.marked import DOMAIN as MARKS
from proxconnect.export.marked import SIGNS, UNPACKED, dialect
from proxconnect.export.writing import require_onnx, translated, write
from proxconnect.kernels.bits import unpack_bits

DOMAIN = "qonnx.custom_op.general"


def to_qonnx(packed: nn.Module, example: Any, path: str | os.PathLike[str], *, any_batch: bool = False) -> None:
    """Write a packed model as a QONNX file, whole or not at all; arguments and errors are those of `to_onnx`.

    A binary weight is an initializer of float ±1 that goes through `BipolarQuant` with its scale, where the input is
    binary with scale 1, and the sums are multiplied by the scale. A binary input goes through `BipolarQuant` too. All
    else is of the ONNX standard. Tools for FPGAs take one size of batch, hence the other default.
    """
    require_onnx()
    model = translated(packed, example, dialect(), any_batch=any_batch)
    for node in list(model.graph):
        if node.domain == MARKS and node.op_type == SIGNS:
            _quantise(model, node, node.inputs[0], _constant(model, "one", torch.ones(1)))
        elif node.domain == MARKS and node.op_type == UNPACKED:
            _write_weight(model, node)
    model.opset_imports.pop(MARKS)
    model.opset_imports[DOMAIN] = 1
    write(model, path)


def _write_weight(model: Any, node: Any) -> None:
    """The signs of a weight as floats, in the place of their bits."""
    bits, *scale = node.inputs
    shape = node.attributes["shape"].as_ints()
    signs = unpack_bits(torch.from_numpy(bits.const_value.numpy().copy()), shape)
    _quantise(model, node, _constant(model, f"{bits.name}.signs", signs),
              scale[0] if scale else _constant(model, "one", torch.ones(1)))  # fmt: skip
    if not bits.uses():
        del model.graph.initializers[bits.name]


def _quantise(model: Any, node: Any, input: Any, scale: Any) -> None:
    """`BipolarQuant` in the place of a node."""
    import onnx_ir

    quantised = onnx_ir.node("BipolarQuant", [input, scale], domain=DOMAIN, name=f"{node.name}.quant")
    old, new = node.outputs[0], quantised.outputs[0]
    new.name, new.shape, new.type = old.name, old.shape, old.type
    model.graph.insert_before(node, quantised)
    onnx_ir.convenience.replace_all_uses_with(old, new)
    model.graph.remove(node, safe=True)


def _constant(model: Any, name: str, values: torch.Tensor) -> Any:
    """An initializer, by a name that may be there already."""
    import onnx_ir

    if name not in model.graph.initializers:
        value = onnx_ir.Value(name=name, const_value=onnx_ir.tensor(values.numpy(), name=name))
        model.graph.register_initializer(value)
    return model.graph.initializers[name]
