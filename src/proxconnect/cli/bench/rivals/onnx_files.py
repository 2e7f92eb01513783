"""Networks as ONNX files: float, and in 8 bits as ONNX Runtime quantises them."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def write_floats(model: nn.Module, inputs: tuple[Tensor, ...], file: Path) -> Path:
    """Export the network for inputs of these shapes."""
    with redirect_stdout(sys.stderr):  # the exporter talks
        torch.onnx.export(model, inputs, file, dynamo=True, external_data=False, verbose=False)
    return file


def write_static_int8(
    source: Path, inputs: tuple[Tensor, ...], file: Path, spared: Callable[[Tensor], bool] | None = None
) -> Path:
    """Quantise weights by channel, and activations by ranges measured on `inputs` (QDQ).

    Convolutions whose weights are `spared` stay float, and so do sums where there are any such.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    folded = file.with_name("folded.onnx")
    with _silent_log():
        quant_pre_process(source, folded, skip_symbolic_shape=True)
        quantize_static(
            folded, file, _Once(folded, inputs), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            nodes_to_exclude=[] if spared is None else _convolutions(folded, spared),
            op_types_to_quantize=None if spared is None else ["Conv", "MatMul", "Gemm"],
        )  # fmt: skip
    return file


def write_dynamic_int8(source: Path, file: Path) -> Path:
    """Quantise the weights of linear layers, whose inputs are then quantised in each run."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    folded = file.with_name("folded.onnx")
    with _silent_log():
        quant_pre_process(_without_shapes(source), folded, skip_symbolic_shape=True)
        quantize_dynamic(folded, file, op_types_to_quantize=["MatMul", "Gemm"], weight_type=QuantType.QInt8)
    return file


def _without_shapes(source: Path) -> Path:
    """The network without the shapes that it names: those of weights by torch 2.7 contradict their quantised forms."""
    import onnx

    model = onnx.load(source)
    del model.graph.value_info[:]
    shapeless = source.with_name("shapeless.onnx")
    onnx.save(model, shapeless)
    return shapeless


def _convolutions(file: Path, chosen: Callable[[Tensor], bool]) -> list[str]:
    """The names of the convolutions whose weights are `chosen`."""
    import onnx

    graph = onnx.load(file).graph
    weights = {tensor.name: torch.tensor(onnx.numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    nodes = (node for node in graph.node if node.op_type == "Conv" and node.input[1] in weights)
    return [node.name for node in nodes if chosen(weights[node.input[1]])]


def feed(session: Any, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
    """The inputs by the names that an ONNX Runtime session has for them."""
    return {taken.name: given.numpy() for taken, given in zip(session.get_inputs(), inputs, strict=True)}


class _Once:
    """The calibration data: one input, once."""

    def __init__(self, file: Path, inputs: tuple[Tensor, ...]) -> None:
        import onnxruntime

        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        self._left = [feed(session, inputs)]

    def get_next(self) -> dict[str, Any] | None:
        return self._left.pop() if self._left else None


@contextmanager
def _silent_log() -> Iterator[None]:
    """The quantiser warns of what it does to every node, in the root's log."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
