"""The provenance of a result: versions, the processor, and a digest of the sources."""

import hashlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from proxconnect.inspection.machine import Machine
from proxconnect.training.study.rows import results_version

_NO_PART = ("cli/", "export/", "huggingface/", "inspection/plots/", "training/study/")
"""Folders of the package that cannot change a row's result."""


def here(threads: int) -> dict[str, Any]:
    """Return what a result on this machine depends on, as plain data; `threads` is noted as the number of threads.

    The keys are "results" (`results_version()`), "sources" (`sources()`), the versions "python", "torch" and
    "lightning" (None if absent), "cpu", "kernels" (their instruction set) and "threads".
    """
    machine = Machine.here()
    return {
        "results": results_version(),
        "sources": sources(),
        "python": platform.python_version(),
        "torch": machine.torch,
        "lightning": next((found.version for found in metadata.distributions(name="lightning")), None),
        "cpu": machine.cpu,
        "kernels": machine.instruction_set,
        "threads": threads,
    }


@cache
def sources() -> str:
    """Return a digest of the Python files of proxconnect that can change a row's result, as 16 hex digits."""
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if not name.startswith(_NO_PART):
            digest.update(f"{name}\0{len(path.read_bytes())}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
