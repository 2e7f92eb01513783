"""OpenVINO networks of packed models: a convolution of signs with signs is a `BinaryConvolution`."""

import os
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from proxconnect._support import extras
from proxconnect._support.atomic import replacing_together
from proxconnect._support.paths import require_target
from proxconnect.export.onnx import BinaryParts, onnx_graph, write

_BELOW_ZERO = -float(torch.finfo(torch.float32).tiny)
"""The largest normal number below 0. Numbers above it are +1, both zeros included."""


def openvino_package() -> Any:
    """Import and return `openvino`, without telemetry unless that is imported already, or raise MissingExtraError."""
    # Telemetry reports imports and conversions by a process that it forks in a thread. None makes its import fail.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return extras.require("openvino", "export")


@cache
def core() -> Any:
    """Return a core that lives as long as the process: deleting two of them can kill it at its next signal."""
    return openvino_package().Core()


def compiled(network: Any, **options: object) -> Any:
    """Compile an `openvino.Model`, or its .xml file, for the CPU in float32; call the result with arrays.

    `options` are OpenVINO's properties by name, such as `INFERENCE_NUM_THREADS=1`.
    """
    if isinstance(network, os.PathLike):
        network = os.fspath(network)
    return core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32", **options})


def to_openvino(packed: nn.Module, example: Any, path: str | os.PathLike[str], *, any_batch: bool = False) -> None:
    """Write a packed model as OpenVINO's NAME.xml at `path`, and NAME.bin beside it; if that fails, old files stay.

    Arguments and errors are those of `to_onnx`; ValueError too if `path` does not end in .xml. Two-dimensional
    convolutions of signs, in one group and of a multiple of 8 weights, become `BinaryConvolution`, with 1 bit a weight
    in the file and in memory. With `any_batch` they do not, because OpenVINO has none for that on CPUs. Other binary
    weights are bits in the file, and floats once it is loaded.

    `BinaryConvolution` takes a negative subnormal input as +1.
    """
    openvino_package()
    target = require_target(path, "net.xml")
    if target.suffix != ".xml":
        raise ValueError(f"OpenVINO's files are NAME.xml and NAME.bin: give the first; got {target}")
    write_network(openvino_network(packed, example, any_batch=any_batch), target)


def write_network(network: Any, path: Path) -> None:
    """Write an `openvino.Model` to the .xml file `path` and the .bin file beside it; on OSError neither changes."""
    openvino = openvino_package()
    with replacing_together(path, path.with_suffix(".bin")) as (xml, weights):
        try:
            openvino.serialize(network, xml, weights)
        except RuntimeError as error:  # from a C++ stream, which does not say why
            raise OSError(
                f"cannot write {str(path)!r} and its .bin: is there room on the disk? OpenVINO says "
                f"{' '.join(str(error).split())!r}; nothing there has changed"
            ) from error


def openvino_network(packed: nn.Module, example: Any, *, any_batch: bool = False) -> Any:
    """Return the `openvino.Model` that `to_openvino` writes; arguments and errors are those of `to_onnx`."""
    signs: set[str] = set()
    weights: dict[str, Tensor] = {}  # those without a scale: uint8, 1 for +1, of the weight's shape

    def name_parts(_: Any, parts: BinaryParts) -> None:  # OpenVINO keeps the names
        for number, (_, output) in enumerate(parts.signs):
            output.name = f"proxconnect.signs.{number}"
            signs.add(output.name)
        for number, weight in enumerate(parts.weights):
            if weight.scale is None:
                weight.value.name = f"proxconnect.weight.{number}"
                weights[weight.value.name] = (weight.signs() > 0).to(torch.uint8)

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.onnx"
        write(onnx_graph(packed, example, any_batch=any_batch, rewrite=name_parts), file)
        network = core().read_model(file)
    for node in network.get_ordered_ops():
        if node.get_type_name() == "Gather":
            # After a conversion of a weight's bytes, OpenVINO takes the weight for one of 8 bits, and rounds the inputs
            # of its product.
            convert = node.input_value(1).get_node()
            if convert.get_type_name() == "Convert" and convert.get_input_element_type(0).get_type_name() == "u8":
                node.input(1).replace_source_output(convert.input_value(0))
        elif node.get_type_name() == "Convolution" and not any_batch:
            image, names = node.input_value(0), node.input_value(1).get_names()
            bits = next((weights[name] for name in names if name in weights), None)
            if bits is not None and bits.dim() == 4 and bits.numel() % 8 == 0 and _are_signs(image, signs):
                node.output(0).replace(binary_convolution(node, bits).output(0))
    network.validate_nodes_and_infer_types()
    return network


def _are_signs(output: Any, names: set[str]) -> bool:
    """Return True for signs with one of the names, also within a border of signs."""
    node = output.get_node()
    if node.get_type_name() == "Pad":
        border = node.input_value(3).get_node()
        is_sign = border.get_type_name() == "Constant" and bool((abs(border.data) == 1).all())
        return is_sign and _are_signs(node.input_value(0), names)
    return not names.isdisjoint(output.get_names())


def binary_convolution(node: Any, bits: Tensor) -> Any:
    """Return the `BinaryConvolution` that computes what `node`, a `Convolution` of signs with a weight ±1, computes.

    `bits` is the weight as uint8 of shape (out, in, height, width), 1 for +1 and 0 for -1, in a multiple of 8 entries.
    """
    openvino = openvino_package()
    opset1, how = openvino.opset1, node.get_attributes()
    # The compiler would turn -1 and 1 into floats first, but takes 0 and 1.
    threshold, zero, one = (opset1.constant([[[[v]]]], openvino.Type.f32) for v in (_BELOW_ZERO, 0.0, 1.0))
    image = opset1.fake_quantize(node.input_value(0), threshold, threshold, zero, one, 2)
    # Kernels read each byte from the lowest bit, and constants begin with the highest.
    turned = bits.view(-1, 8).flip(1).flatten().tolist()
    weight = openvino.op.Constant(openvino.Type.u1, openvino.Shape(list(bits.shape)), turned)
    return opset1.binary_convolution(
        image, weight, how["strides"], how["pads_begin"], how["pads_end"],
        how["dilations"], "xnor-popcount", 0.0, "explicit",
    )  # fmt: skip
