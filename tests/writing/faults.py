"""Faults of the file layer in this process, which must have been started with `started_with`."""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("faults.c")
LIBRARY = "PROXCONNECT_TEST_FAULTS"
"""The variable with the path of the library in a process that has it."""


class Action(IntEnum):
    """What the chosen call meets, as faults.c numbers it."""

    FAILS = 1
    """It fails, and the next one does not."""
    STAYS_FULL = 2
    """A write is cut in the middle, and from then on nothing can be written or made."""
    KILLED = 3
    """A write is cut in the middle; the process is no more."""
    LOSES_DATA = 4
    """So, and what no fsync wrote is lost."""
    LOSES_NAMES = 5
    """So, and what was made or renamed in a directory is undone where no fsync of that followed."""


KILLED_STATUS = 77


def compiler() -> str | None:
    return shutil.which("cc") if sys.platform == "linux" else None


def started_with(folder: Path) -> Mapping[str, str]:
    """The environment in which a process has the faults, whose library is compiled into `folder`."""
    library = folder / "faults.so"
    subprocess.run([compiler() or "cc", "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    return os.environ | {"LD_PRELOAD": str(library), LIBRARY: str(library)}


@cache
def library() -> ctypes.CDLL:
    loaded = ctypes.CDLL(os.environ[LIBRARY])
    loaded.arm.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    loaded.disarm.restype = ctypes.c_long
    return loaded


@dataclass
class armed:  # noqa: N801  # a context manager is used as a function is
    """Within, call number `at` that concerns the files of `folder` meets the fault; `calls` is how many there were."""

    folder: Path
    action: Action
    error: int
    at: int
    calls: int = 0

    def __enter__(self) -> None:
        library().arm(os.fsencode(self.folder), self.action, self.error, self.at)

    def __exit__(self, *_: object) -> None:
        self.calls = library().disarm()
