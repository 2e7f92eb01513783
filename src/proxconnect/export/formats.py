"""The formats by name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxconnect.export.openvino import to_openvino
from proxconnect.export.qonnx import to_qonnx
from proxconnect.export.runtimes import Runtime, by_onnx_runtime, by_openvino, by_qonnx
from proxconnect.export.standard import to_onnx


@dataclass(frozen=True)
class Format:
    """How a file is written, and by what it is run."""

    write: Callable[..., None]
    """As `to_onnx`."""
    run: Callable[[Any], Runtime]
    runtime: str
    """What runs it, in words."""
    beside: str | None = None
    """The suffix of a second file."""

    def size(self, path: Path) -> int:
        """The bytes of what was written to `path`."""
        files = [path] if self.beside is None else [path, path.with_suffix(self.beside)]
        return sum(file.stat().st_size for file in files)


FORMATS = {
    "onnx": Format(to_onnx, by_onnx_runtime, "ONNX Runtime"),
    "qonnx": Format(to_qonnx, by_qonnx, "qonnx"),
    "openvino": Format(to_openvino, by_openvino, "OpenVINO", ".bin"),
}
"""By the name that the command line has for each."""
