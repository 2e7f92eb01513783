"""OpenVINO in a process that is not its own: one core, and nothing sent."""

import os
import sys
from functools import cache
from typing import Any

from proxconnect._support import extras


def openvino_package() -> Any:
    """The imported `openvino`; MissingExtraError where it is absent.

    It would report imports and conversions to its makers, from a process that it forks within a thread, unless the
    package that does so cannot be imported. Where it was imported before, it goes on.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None has an import fail
    return extras.require("openvino", "export")


@cache
def _core() -> Any:
    """One that lives as long as the process.

    A core that compiles for CPUs gives its thread another stack for signals, and takes back the one from before when
    it goes. Where two go in the order in which they came, that stack is no longer there, and the next signal that
    Python handles, as when a child ends, kills the process without a word.
    """
    return openvino_package().Core()


def compiled(network: Any, **options: object) -> Any:
    """An `openvino.Model`, or the file of one, compiled for CPUs, computing in float32 where they have bfloat16 too."""
    if isinstance(network, os.PathLike):
        network = os.fspath(network)
    return _core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32", **options})
