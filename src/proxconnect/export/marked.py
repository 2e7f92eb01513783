"""Signs and weights as operators of our own, in graphs that are then rewritten for a runtime that has its own."""

from typing import Any

import torch

from proxconnect.export.writing import Dialect

DOMAIN = "proxconnect"
SIGNS = "Signs"
"""What gives the signs of its one input."""
UNPACKED = "Unpacked"
"""What gives the weight of its inputs, the bits and perhaps a scale, in the shape of its attribute `shape`."""


def dialect() -> Dialect:
    """The two operators, in a domain that no runtime knows."""
    signs, unpacked = _signs_operator(), _unpacked_operator()

    def write_signs(input: Any) -> Any:
        return signs(input)

    def write_unpacked(bits: Any, scale: Any, shape: list[int]) -> Any:
        return unpacked(bits, shape=shape) if scale is None else unpacked(bits, scale, shape=shape)

    return {torch.ops.proxconnect.signs.default: write_signs, torch.ops.proxconnect.unpacked.default: write_unpacked}


def _signs_operator() -> Any:
    from onnx.defs import OpSchema

    one = OpSchema.FormalParameter("input", "T"), OpSchema.FormalParameter("signs", "T")
    return _operator(OpSchema(SIGNS, DOMAIN, 1, inputs=[one[0]], outputs=[one[1]], type_constraints=_FLOATS))


def _unpacked_operator() -> Any:
    from onnx.defs import OpSchema

    bits = OpSchema.FormalParameter("bits", "tensor(uint8)")
    scale = OpSchema.FormalParameter("scale", "T", param_option=OpSchema.FormalParameterOption.Optional)
    weight = OpSchema.FormalParameter("weight", "T")
    shape = OpSchema.Attribute("shape", OpSchema.AttrType.INTS, "that of the weight", required=True)
    return _operator(OpSchema(UNPACKED, DOMAIN, 1, inputs=[bits, scale], outputs=[weight], type_constraints=_FLOATS,
                              attributes=[shape]))  # fmt: skip


_FLOATS = [("T", ["tensor(float)", "tensor(double)", "tensor(float16)", "tensor(bfloat16)"], "floats")]


def _operator(schema: Any) -> Any:
    from onnxscript.values import Op, Opset

    return Op(Opset(schema.domain, 1), schema.name, schema)
