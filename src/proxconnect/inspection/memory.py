"""The peak of main memory of this process."""

import sys
from contextlib import suppress
from pathlib import Path


def own_peak() -> int | None:
    """Return the most bytes of main memory that this process has held, since any `reset_peak`; None on Windows.

    On Linux it comes from /proc: there `ru_maxrss` starts at the peak of the parent process.
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def reset_peak() -> None:
    """Reset the peak that `own_peak` returns to the memory held now. Only Linux can; if it fails, nothing happens."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
