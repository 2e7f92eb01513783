"""The network in other engines, with as many threads."""

from proxconnect.cli.bench.rivals import onnx_runtime, openvino
from proxconnect.cli.bench.rivals.rival import CannotRunError, Rival, Run, Task

__all__ = ["RIVALS", "CannotRunError", "Rival", "Run", "Task"]

_ONNX = ("onnxruntime", "onnx", "onnxscript")

RIVALS = (
    Rival("ONNX Runtime", _ONNX, onnx_runtime.floats),
    Rival("ONNX Runtime int8", _ONNX, onnx_runtime.int8),
    Rival("OpenVINO", ("openvino",), openvino.floats),
    Rival("OpenVINO int8", ("openvino", *_ONNX), openvino.int8),
    Rival("OpenVINO binary", ("openvino",), openvino.binary, runs="binary"),
    Rival("OpenVINO binary+int8", ("openvino", *_ONNX), openvino.binary_in_int8, runs="binary"),
)
