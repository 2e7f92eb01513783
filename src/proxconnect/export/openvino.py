"""OpenVINO networks of packed models, whose convolutions of signs by signs are `BinaryConvolution`."""

import os
import tempfile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from proxconnect._support.atomic import replacing_together
from proxconnect.export import marked
from proxconnect.export.openvino_runtime import openvino_package
from proxconnect.export.portable import signs_of_bytes
from proxconnect.export.writing import require_onnx, translated, write
from proxconnect.kernels.bits import unpack_bits

_BELOW_ZERO = -float(torch.finfo(torch.float32).tiny)
"""The greatest normal number below 0: what is above it is +1, both zeros too."""

_MARK = "proxconnect"
"""Where a node says what it gives."""


def to_openvino(packed: nn.Module, example: Any, path: str | os.PathLike[str], *, any_batch: bool = False) -> None:
    """Write a packed model as OpenVINO's `path`, as net.xml, and the net.bin beside it; each is there whole.

    Arguments and errors are those of `to_onnx`. Two-dimensional convolutions of signs and of one group are
    `BinaryConvolution`, 1 bit a weight in the file and in memory, but not with `any_batch`, for which OpenVINO has none
    on CPUs. Other weights are bits in the file, and floats once it is loaded. An input that is not 0 but less than
    float32's smallest normal number in size is +1 to `BinaryConvolution`.
    """
    openvino_package()
    target = Path(path)
    if target.suffix != ".xml":
        raise ValueError(f"OpenVINO's files are NAME.xml and NAME.bin: give the first; got {target}")
    write_network(openvino_network(packed, example, any_batch=any_batch), target)


def write_network(network: Any, path: Path) -> None:
    """Write an `openvino.Model` as `path` and the .bin beside it; OSError where either cannot be written."""
    openvino = openvino_package()
    with replacing_together(path, path.with_suffix(".bin")) as (xml, weights):
        try:
            openvino.serialize(network, xml, weights)
        except RuntimeError as error:  # of a C++ stream, which does not say why
            raise OSError(
                f"cannot write {str(path)!r} and its .bin: is there room on the disk? OpenVINO says "
                f"{' '.join(str(error).split())!r}; nothing there has changed"
            ) from error


def openvino_network(packed: nn.Module, example: Any, *, any_batch: bool = False) -> Any:
    """The `openvino.Model` that `to_openvino` writes, in memory."""
    openvino = openvino_package()
    require_onnx()
    signs = _Signs()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "marked.onnx"
        write(translated(packed, example, marked.dialect(), any_batch=any_batch), file)
        core = openvino.Core()
        for extension in signs.extensions():
            core.add_extension(extension)
        network = core.read_model(file)
    if not any_batch:
        for node in network.get_ordered_ops():
            if node.get_type_name() == "Convolution":
                signs.make_binary(node)
        network.validate_nodes_and_infer_types()
    return network


class _Signs:
    """Converts our operators, and knows again which nodes give signs, by a mark that they bear."""

    def __init__(self) -> None:
        self._weights: list[torch.Tensor] = []
        """Those without a scale: uint8, 1 for +1, of the weight's shape."""

    def extensions(self) -> list[Any]:
        from openvino.frontend.onnx import ConversionExtension

        return [
            ConversionExtension(marked.SIGNS, marked.DOMAIN, self._signs),
            ConversionExtension(marked.UNPACKED, marked.DOMAIN, self._unpacked),
        ]

    def _signs(self, node: Any) -> list[Any]:
        from openvino import opset1

        input = node.get_input(0)
        zero, one, minus_one = (opset1.convert_like(opset1.constant(np.float32(v)), input) for v in (0.0, 1.0, -1.0))
        signs = opset1.select(opset1.greater_equal(input, zero), one, minus_one)
        signs.get_rt_info()[_MARK] = "signs"
        return list(signs.outputs())

    def _unpacked(self, node: Any) -> list[Any]:
        from openvino import opset13 as op

        shape = node.get_attribute("shape")
        packed = node.get_input(0).get_node()
        rows = op.gather(op.constant(signs_of_bytes().numpy()), packed, op.constant(0))
        flat = op.reshape(rows, op.constant([-1]), False)
        if prod(shape) % 8:
            flat = op.slice(flat, op.constant([0]), op.constant([prod(shape)]), op.constant([1]))
        weight = op.convert(op.reshape(flat, op.constant(list(shape)), False), "f32")
        if node.get_input_size() == 2:
            return list(op.multiply(weight, node.get_input(1)).outputs())
        weight.get_rt_info()[_MARK] = str(len(self._weights))
        self._weights.append((unpack_bits(torch.from_numpy(packed.data.copy()), shape) > 0).to(torch.uint8))
        return list(weight.outputs())

    def make_binary(self, node: Any) -> None:
        """Replace a convolution if it multiplies signs by signs that it can be given as bits."""
        image, weight_mark = node.input_value(0), _mark(node.input_value(1).get_node())
        if not weight_mark.isdecimal() or not _are_signs(image.get_node()):
            return
        bits = self._weights[int(weight_mark)]
        if bits.dim() != 4 or bits.numel() % 8:
            return
        binary = binary_convolution(node, bits)
        node.output(0).replace(binary.output(0))


def _are_signs(node: Any) -> bool:
    """Whether a node gives signs, perhaps within a border of signs."""
    if node.get_type_name() == "Pad":
        border = node.input_value(3).get_node()
        is_sign = border.get_type_name() == "Constant" and bool((np.abs(border.data) == 1).all())
        return is_sign and _are_signs(node.input_value(0).get_node())
    return _mark(node) == "signs"


def _mark(node: Any) -> str:
    marks = node.get_rt_info()
    return str(marks[_MARK].astype(str)) if _MARK in marks else ""


def binary_convolution(node: Any, bits: torch.Tensor) -> Any:
    """What a convolution by ±1 is as a binary one: of its input's signs, and 1 for +1 and 0 for -1 as its weight."""
    from openvino import opset1

    how = node.get_attributes()
    return opset1.binary_convolution(
        _as_bits(node.input_value(0)), _constant(bits), how["strides"], how["pads_begin"], how["pads_end"],
        how["dilations"], "xnor-popcount", 0.0, "explicit",
    )  # fmt: skip


def _as_bits(values: Any) -> Any:
    """1 for what is at least 0, else 0, since of -1 and 1 the compiler makes floats before a binary convolution."""
    from openvino import opset1

    threshold, zero, one = (opset1.constant(np.full((1, 1, 1, 1), v, np.float32)) for v in (_BELOW_ZERO, 0.0, 1.0))
    return opset1.fake_quantize(values, threshold, threshold, zero, one, 2)


def _constant(bits: torch.Tensor) -> Any:
    """A multiple of 8 bits. Kernels read each byte from the lowest one, where constants begin with the highest."""
    openvino = openvino_package()
    turned = bits.view(-1, 8).flip(1).flatten().tolist()
    return openvino.op.Constant(openvino.Type.u1, openvino.Shape(list(bits.shape)), turned)
