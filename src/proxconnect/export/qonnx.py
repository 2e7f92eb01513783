"""QONNX files of packed models, for FINN and hls4ml: signs are `BipolarQuant`."""

import os
from typing import Any

import torch
from torch import nn

from proxconnect.export.onnx import BinaryParts, onnx_graph, write

DOMAIN = "qonnx.custom_op.general"


def to_qonnx(packed: nn.Module, example: Any, path: str | os.PathLike[str], *, any_batch: bool = False) -> None:
    """Write a packed model as a QONNX file. If that fails, the old file stays.

    Arguments and errors are those of `to_onnx`. By default the file takes one batch size, as tools for FPGAs do.

    A binary weight is an initializer of float ±1, followed by `BipolarQuant` with its scale. If the input is binary, it
    goes through `BipolarQuant` too, the weight has scale 1 there, and the sums are multiplied by the scale. All other
    operators are those of the ONNX standard.
    """
    write(onnx_graph(packed, example, any_batch=any_batch, rewrite=_quantise_signs), path)


def _quantise_signs(model: Any, parts: BinaryParts) -> None:
    model.opset_imports[DOMAIN] = 1
    for input, output in parts.signs:
        _quantise(model, output, input, _constant(model, "one", torch.ones(1)))
    for weight in parts.weights:
        signs = _constant(model, f"{weight.bits.name}.signs", weight.signs())
        scale = _constant(model, "one", torch.ones(1)) if weight.scale is None else weight.scale
        _quantise(model, weight.value, signs, scale)


def _quantise(model: Any, old: Any, input: Any, scale: Any) -> None:
    """Put `BipolarQuant` in the place of a value."""
    import onnx_ir

    quantised = onnx_ir.node("BipolarQuant", [input, scale], domain=DOMAIN, name=f"{old.name}.quant")
    new = quantised.outputs[0]
    new.name, new.shape, new.type = f"{old.name}.signs", old.shape, old.type
    model.graph.insert_after(old.producer(), quantised)
    onnx_ir.convenience.replace_all_uses_with(old, new)


def _constant(model: Any, name: str, values: torch.Tensor) -> Any:
    """Return the initializer of that name, and add it if it is not there."""
    import onnx_ir

    if name not in model.graph.initializers:
        value = onnx_ir.Value(name=name, const_value=onnx_ir.tensor(values.numpy(), name=name))
        model.graph.register_initializer(value)
    return model.graph.initializers[name]
