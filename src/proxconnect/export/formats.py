"""The formats by name."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from proxconnect.export.floats import to_floats
from proxconnect.export.openvino import to_openvino
from proxconnect.export.qonnx import to_qonnx
from proxconnect.export.runtimes import Build, Runtime, by_onnx_runtime, by_openvino, by_qonnx, by_torch
from proxconnect.export.standard import to_onnx

File = str | os.PathLike[str]


@dataclass(frozen=True)
class Format:
    """How a file is written, and by what it is run."""

    write: Callable[[nn.Module, Any, File], None]
    """Writes a packed model, with an example of its input, to a file."""
    run: Callable[[File, Build], Runtime]
    """Runs a file; what it does not say of the architecture, the float network does that is built."""
    runtime: str
    """What runs it, in words."""
    beside: str | None = None
    """The suffix of a second file."""
    is_graph: bool = True
    """Whether the file says how to compute, which an example shows; else it holds weights alone, and needs none."""

    def size(self, path: Path) -> int:
        """The bytes of what was written to `path`."""
        files = [path] if self.beside is None else [path, path.with_suffix(self.beside)]
        return sum(file.stat().st_size for file in files)


def _alone(run: Callable[[File], Runtime]) -> Callable[[File, Build], Runtime]:
    """Runs a file that says all of the architecture."""
    return lambda path, build: run(path)


def _write_floats(packed: nn.Module, example: Any, path: File) -> None:
    to_floats(packed, path)


FORMATS = {
    "onnx": Format(to_onnx, _alone(by_onnx_runtime), "ONNX Runtime"),
    "qonnx": Format(to_qonnx, _alone(by_qonnx), "qonnx"),
    "openvino": Format(to_openvino, _alone(by_openvino), "OpenVINO", ".bin"),
    "float": Format(_write_floats, by_torch, "the float network", is_graph=False),
}
"""By the name that the command line has for each."""
