"""OpenVINO without its telemetry."""

import sys
from typing import Any

from proxconnect import extras


def openvino_package() -> Any:
    """The imported `openvino`; MissingExtraError where it is absent.

    It would report imports and conversions to its makers, from a process that it forks within a thread, unless the
    package that does so cannot be imported. Where it was imported before, it goes on.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None has an import fail
    return extras.require("openvino", "export")
