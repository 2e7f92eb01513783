"""How much main memory a process has held."""

import sys
from contextlib import suppress
from pathlib import Path

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


def own_peak() -> int | None:
    """The most bytes of main memory that this process has held; None where the system does not say.

    On Linux it is read in /proc: there `ru_maxrss` begins with what the process that started this one held.
    """
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def reset_peak() -> None:
    """Let `own_peak` count from now on, where the system can."""
    with suppress(OSError):
        _RESET.write_text("5")
