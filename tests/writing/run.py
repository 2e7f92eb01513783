"""Every writer of files with every fault at every call of its file layer, on full disks and in crowds; the counts.

Run from tests/: python -m writing.run [NAME ...], in Linux, with a C compiler. "cases" are writes that met a fault, or
looks at a file that others write; "old" and "new" those that left or found the old file (or none, where there was none)
and the new one. The rest left, of two files, the second alone. The status is 1 where a writer leaves anything else.
"""

import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

from writing.faults import LIBRARY, started_with

MEMORY = "/dev/shm"
"""A disk on which a flush takes no time."""


def checks() -> dict[str, Callable[[], "Count"]]:
    """All that is counted, by name."""
    found: dict[str, Callable[[], Count]] = {}
    for name, writer in (WRITERS | CARELESS).items():
        found[name] = partial(at_each_call, writer)
        found[f"{name}: little room"] = partial(with_little_room, writer)
        found[f"{name}: short files"] = partial(with_short_files, writer)
        found[f"{name}: two at once"] = partial(two_at_once, writer)
        found[f"{name}: killed"] = partial(killed_at_random, writer)
    return found


def usual() -> list[str]:
    crowds = [f"pc.save: {what}" for what in ("two at once", "killed")]
    return [f"{name}{what}" for name in WRITERS for what in ("", ": little room", ": short files")] + crowds


def main(chosen: list[str]) -> int:
    torch.set_num_threads(1)
    tempfile.tempdir = MEMORY if os.path.isdir(MEMORY) else None
    warnings.simplefilter("ignore")
    wrong: list[str] = []
    print(f"{'writer':40}{'cases':>8}{'old':>8}{'new':>8}{'wrong':>8}{'seconds':>9}")
    for name in chosen or usual():
        begun = time.perf_counter()
        count = checks()[name]()
        seconds = time.perf_counter() - begun
        print(f"{name:40}{count.writes:8}{count.old:8}{count.new:8}{len(count.wrong):8}{seconds:9.1f}", flush=True)
        wrong += [f"{name}: {what}" for what in count.wrong]
    print("\n".join(wrong))
    return int(bool(wrong))


if __name__ == "__main__":
    if LIBRARY in os.environ:
        import torch

        from writing.crowds import killed_at_random, two_at_once
        from writing.disks import with_little_room, with_short_files
        from writing.law import Count, at_each_call
        from writing.writers import CARELESS, WRITERS

        sys.exit(main(sys.argv[1:]))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "writing.run", *sys.argv[1:]]
        sys.exit(subprocess.run(command, env=started_with(Path(folder)), check=False).returncode)
