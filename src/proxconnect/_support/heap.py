"""The heap of this process, in which glibc holds the memory of tensors on a CPU."""

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as in malloc.h
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> None:
    """Let glibc keep the memory that a training step frees for the next one, from now on in this process.

    Otherwise glibc returns it to the system, which hands out and clears new pages in each step. Do nothing with another
    C library, or if an environment variable sets one of these thresholds.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _SETTINGS):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for threshold in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
            mallopt(threshold, 1 << 30)
