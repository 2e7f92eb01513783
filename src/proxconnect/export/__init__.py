"""Packed models for other runtimes."""

from proxconnect.export.formats import to_floats
from proxconnect.export.gguf import to_gguf
from proxconnect.export.onnx import to_onnx, to_qonnx
from proxconnect.export.openvino import to_openvino
from proxconnect.export.portable import ExportError

__all__ = ["ExportError", "to_floats", "to_gguf", "to_onnx", "to_openvino", "to_qonnx"]
