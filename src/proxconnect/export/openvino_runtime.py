"""OpenVINO in this process: one core, and no telemetry."""

import os
import sys
from functools import cache
from typing import Any

from proxconnect._support import extras


def openvino_package() -> Any:
    """Import `openvino` without its telemetry; MissingExtraError if it is not installed.

    The telemetry would report imports and conversions, from a process that it forks within a thread. If `openvino` is
    imported already, it stays on.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None makes the import fail
    return extras.require("openvino", "export")


@cache
def _core() -> Any:
    """Return a core that lives as long as the process.

    A core that compiles for CPUs gives its thread another stack for signals, and restores the previous one when it is
    deleted. If two cores are deleted in the order of their creation, the restored stack no longer exists. Then the next
    signal that Python handles kills the process silently.
    """
    return openvino_package().Core()


def compiled(network: Any, **options: object) -> Any:
    """Compile an `openvino.Model`, or a file of one, for CPUs; it computes in float32 even where bfloat16 is faster."""
    if isinstance(network, os.PathLike):
        network = os.fspath(network)
    return _core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32", **options})
