"""Packed models for other runtimes."""

from proxconnect.export.floats import to_floats
from proxconnect.export.onnx import to_onnx
from proxconnect.export.openvino import to_openvino
from proxconnect.export.portable import ExportError
from proxconnect.export.qonnx import to_qonnx

__all__ = ["ExportError", "to_floats", "to_onnx", "to_openvino", "to_qonnx"]
