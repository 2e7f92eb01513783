"""Atomic writing: a file is complete, or it is not there."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from proxconnect._support.paths import require_target


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty temporary file beside `path` to write to, and rename it to `path` when the body succeeds.

    It has the suffix of `path`, and gets the permissions of the file that it replaces. On any exception it is deleted
    and `path` is unchanged.
    """
    with _aside(path) as aside:
        yield aside.temporary
        aside.flush()
        aside.temporary.replace(aside.target)
    flush_directory(aside.target.parent)


@contextmanager
def replacing_together(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> Iterator[tuple[Path, Path]]:
    """Yield two temporary files, and rename them to `first` and `second`, of one directory, when the body succeeds.

    An exception leaves both unchanged. After a power cut `first` may be missing, but never belongs to another `second`.
    """
    with _aside(first) as head, _aside(second) as tail:
        yield head.temporary, tail.temporary
        head.flush()
        tail.flush()
        with ExitStack() as undo:
            head.move_away(undo)
            flush_directory(head.target.parent)
            tail.keep(undo)
            tail.temporary.replace(tail.target)
            flush_directory(tail.target.parent)
            head.temporary.replace(head.target)
            undo.pop_all()
    for aside in (head, tail):
        with suppress(OSError):  # a leftover file does no harm
            aside.old.unlink(missing_ok=True)
    flush_directory(head.target.parent)


def flush_directory(directory: Path) -> None:
    """Flush the file names of a directory to the disk, so that renames survive a power cut, if the system can."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


_ADVICE = dict.fromkeys(
    (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS), ": its directory must exist and be writable"
) | {errno.ENOSPC: ": make room on its disk", errno.EDQUOT: ": make room in your quota"}
"""Advice by error number."""


def write_error(error: OSError, target: Path) -> OSError:
    """Return an OSError with the number of `error`, or EIO, which says that `target` is unchanged, with any advice."""
    number = error.errno or errno.EIO
    reason = f"cannot write {target.name!r}{_ADVICE.get(number, '')} ({os.strerror(number)}); nothing there has changed"
    return OSError(number, reason, str(target))


@dataclass(frozen=True)
class _Aside:
    """A temporary file, the target that it will replace, and a place for the old target in the meantime."""

    target: Path
    temporary: Path
    old: Path
    permissions: int

    def flush(self) -> None:
        self.temporary.chmod(self.permissions)
        with self.temporary.open("rb+") as file:
            os.fsync(file.fileno())

    def move_away(self, undo: ExitStack) -> None:
        """Move an old target away, which `undo` brings back; without one, `undo` deletes the new target."""
        if self.target.exists():
            self.target.replace(self.old)
            undo.callback(self._bring_back)
        else:
            undo.callback(self.target.unlink, missing_ok=True)

    def keep(self, undo: ExitStack) -> None:
        """Give the old target a second name, or move it away on file systems without hard links."""
        try:
            os.link(self.target, self.old)
        except OSError:
            self.move_away(undo)
        else:
            undo.callback(self._bring_back)

    def _bring_back(self) -> None:
        self.old.replace(self.target)
        self.old.unlink(missing_ok=True)  # renaming does nothing if both are names of one file


@contextmanager
def _aside(path: str | os.PathLike[str]) -> Iterator[_Aside]:
    """Make the temporary file; on any exception delete it, and name the target in an error of the disk."""
    target = require_target(path)
    token = secrets.token_hex(8)
    temporary = target.with_name(f".{token}{target.suffix}")
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        permissions = (target if target.exists() else temporary).stat().st_mode & 0o777
        yield _Aside(target, temporary, target.with_name(f".{token}.old{target.suffix}"), permissions)
    except BaseException as error:
        with suppress(OSError):  # it would hide the first error
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, temporary, str(temporary)):
            raise write_error(error, target) from error
        raise
