"""Packed models for other runtimes."""

from proxconnect.export.floats import to_floats
from proxconnect.export.onnx_file import to_onnx
from proxconnect.export.openvino import to_openvino
from proxconnect.export.qonnx import to_qonnx
from proxconnect.export.tracing import ExportError

__all__ = ["ExportError", "to_floats", "to_onnx", "to_openvino", "to_qonnx"]
