"""Disks that are full: a small one in memory that is filled, and files that may not grow."""

import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from writing.law import Count, Trial
from writing.writers import Writer

PAGE = 4096
MOST_PAGES = 500
"""More than any write needs."""


@contextmanager
def small_disk() -> Iterator[Path | None]:
    """A disk of few megabytes; None where none may be mounted."""
    with tempfile.TemporaryDirectory() as place:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={2 * MOST_PAGES * PAGE}", "tmpfs", place]
        if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
            yield None
            return
        try:
            yield Path(place)
        finally:
            subprocess.run(["umount", place], check=True)


@contextmanager
def room(disk: Path, pages: int) -> Iterator[None]:
    """Within, the disk has room for so many pages."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(PAGE))
        except OSError:
            file.truncate(file.tell() - pages * PAGE)
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def longest_file(size: int) -> Iterator[None]:
    """Within, no file of this process may grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def with_little_room(writer: Writer) -> Count:
    """A writer on a disk with room for no page, for one and so on, until it writes."""
    count, write = Count(), writer.prepare()
    with small_disk() as disk:
        for has_old in (False, True) if disk else ():
            trial = Trial(writer, write, has_old)
            for pages in range(MOST_PAGES):
                with trial.folder(disk) as folder:
                    with room(disk, pages):
                        raised = trial.attempt(folder)
                    trial.judge(folder, raised, f"room for {pages} pages", count)
                if raised is None:
                    break
    return count


def with_short_files(writer: Writer) -> Count:
    """A writer whose files may have no byte, then more and more, until it writes."""
    count, write = Count(), writer.prepare()
    for has_old in (False, True):
        trial, size = Trial(writer, write, has_old), 0
        raised: Exception | None = OSError()
        while raised:
            with trial.folder() as folder:
                with longest_file(size):
                    raised = trial.attempt(folder)
                trial.judge(folder, raised, f"files of {size} bytes", count)
            size += max(1, size // 4)
    return count
