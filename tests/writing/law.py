"""What holds of a writer, whatever happens to it: the old file is whole, or the new one, and an error says so."""

import errno
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from writing.faults import KILLED_STATUS, Action, armed, library
from writing.writers import Write, Writer

MOST = 500
"""More calls than any write makes."""

WAIT = 60
"""Seconds that a process has."""

FAULTS = [
    (Action.FAILS, errno.EIO), (Action.FAILS, errno.ENOSPC), (Action.STAYS_FULL, errno.ENOSPC),
    (Action.KILLED, 0), (Action.LOSES_DATA, 0), (Action.LOSES_NAMES, 0),
]  # fmt: skip


@dataclass
class Count:
    """How a writer fared: writes that met a fault, those that left the old or the new, and what was wrong."""

    writes: int = 0
    old: int = 0
    new: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass
class Trial:
    """A writer with what a folder holds before it writes, as its reader sees it, and after."""

    writer: Writer
    write: Write
    has_old: bool
    before: Any = None
    after: Any = None
    names: set[str] = field(default_factory=set)
    """Those of the files that may be there."""

    def __post_init__(self) -> None:
        with self.folder() as folder:
            self.before, self.names = self.writer.read(folder), names(folder)
            self.write(folder, 1)
            self.after = self.writer.read(folder)
            self.names |= names(folder)
        assert self.before != self.after

    @contextmanager
    def folder(self, within: Path | None = None) -> Iterator[Path]:
        """A folder as it is before."""
        with tempfile.TemporaryDirectory(dir=within) as root:
            folder = Path(root) / "folder"
            folder.mkdir()
            if self.has_old:
                self.write(folder, 0)
            yield folder

    def with_error(self, action: Action, number: int, at: int, count: Count) -> bool:
        """Whether the fault was met."""
        with self.folder() as folder:
            fault = armed(folder, action, number, at)
            with fault:
                raised = self.attempt(folder)
            if fault.calls >= at:
                self.judge(folder, raised, f"{action.name} {errno.errorcode[number]} at call {at}", count)
        return fault.calls >= at

    def attempt(self, folder: Path) -> Exception | None:
        try:
            self.write(folder, 1)
        except Exception as error:
            return error
        return None

    def judge(self, folder: Path, raised: Exception | None, where: str, count: Count) -> None:
        """Count a write that came to its end, and what is wrong with what it left."""
        found, left = self.writer.read(folder), names(folder) - self.names
        where = f"{where}, {'old' if self.has_old else 'no'} file"
        count.writes, count.old, count.new = count.writes + 1, count.old + bool(raised), count.new + (not raised)
        if found != (self.before if raised else self.after):
            count.wrong.append(f"{where}: {raised!r}, but the file is not the {'old' if raised else 'new'} one")
        if left:
            count.wrong.append(f"{where}: {raised!r} leaves {left}")
        if raised and not is_clear(raised, self.names):
            count.wrong.append(f"{where}: {raised!r} does not say which file cannot be written")

    def with_end(self, action: Action, at: int, count: Count) -> bool:
        """Whether the process ended at the call."""
        where = f"{action.name} at call {at}, {'old' if self.has_old else 'no'} file"
        with self.folder() as folder:
            status = ended(self.write, folder, action, at)
            if status not in (0, KILLED_STATUS):
                count.wrong.append(f"{where}: status {status}")
                return False
            found = self.writer.read(folder)
            if status == KILLED_STATUS:
                count.writes += 1
                count.old, count.new = count.old + (found == self.before), count.new + (found == self.after)
            if not (self.writer.may_be(found, self.before, self.after) if status else found == self.after):
                count.wrong.append(f"{where}: neither the old file nor the new one is there")
            self.write(folder, 1)
            if self.writer.read(folder) != self.after:
                count.wrong.append(f"{where}: the next write does not give the new file")
        return status == KILLED_STATUS


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def is_clear(error: BaseException, names: set[str]) -> bool:
    """Whether the error is one of the disk and names a file that a user knows."""
    return isinstance(error, OSError) and any(Path(name).name in str(error) for name in names)


def ended(write: Write, folder: Path, action: Action, at: int) -> int:
    """The status of a process that writes, 0 where it came to its end, at which power is cut too."""
    child = os.fork()
    if child == 0:
        signal.alarm(WAIT)
        status = 1
        try:
            with armed(folder, action, 0, at):
                write(folder, 1)
                if action in (Action.LOSES_DATA, Action.LOSES_NAMES):
                    library().power_cut(0)
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def at_each_call(writer: Writer) -> Count:
    """All faults at all calls of a writer, with and without a file that is there before."""
    count, write = Count(), writer.prepare()
    for has_old in (False, True):
        trial = Trial(writer, write, has_old)
        for action, number in FAULTS:
            for at in range(1, MOST):
                if not (trial.with_error(action, number, at, count) if number else trial.with_end(action, at, count)):
                    break
    return count
