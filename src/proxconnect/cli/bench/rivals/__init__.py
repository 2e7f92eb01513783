"""The network in other engines, with as many threads."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from proxconnect.cli.bench.rivals import onnx_runtime, openvino
from proxconnect.cli.bench.rivals.onnx_runtime import CannotRunError, Run, Task

__all__ = ["RIVALS", "CannotRunError", "Rival", "Run", "Task", "reason"]

_ONNX = ("onnxruntime", "onnx", "onnxscript")


def reason(error: Exception) -> str:
    """Return in one line why an engine does not run a network: the message of a CannotRunError, or another error."""
    if isinstance(error, CannotRunError):
        return str(error)
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


@dataclass(frozen=True)
class Rival:
    """An engine to compare torch with, at one precision: its packages, and the function that prepares it."""

    name: str
    packages: tuple[str, ...]
    """The packages that must be installed, the engine first."""
    prepare: Callable[[Task], Run]
    """Converts the network of a task and returns the function that runs it; CannotRunError if it does not take it."""
    runs: Literal["float", "binary"] = "float"
    """The form of the network that it runs, with which its outputs are compared."""
    files: tuple[str, ...] = ()
    """What its file may be called in the folder of the task; it reads the first of these that is there."""

    @property
    def absence(self) -> str:
        """How to install its packages if one is missing; "" if all are installed."""
        missing = not all(map(find_spec, self.packages))
        return f"not installed; run: pip install {' '.join(self.packages)}" if missing else ""


RIVALS = (
    Rival("ONNX Runtime", _ONNX, onnx_runtime.floats, files=("float.onnx",)),
    Rival("ONNX Runtime int8", _ONNX, onnx_runtime.int8, files=("dynamic.onnx", "static.onnx")),
    Rival("OpenVINO", ("openvino",), openvino.floats),
    Rival("OpenVINO int8", ("openvino", "nncf", *_ONNX), openvino.int8),
    Rival("OpenVINO binary", ("openvino",), openvino.binary, runs="binary"),
    Rival("OpenVINO binary+int8", ("openvino", *_ONNX), openvino.binary_in_int8, runs="binary"),
)
