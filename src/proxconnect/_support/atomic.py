"""Files that are there whole or not at all."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write `path` aside: yields a temporary file of its directory, which replaces `path` when the body ends well.

    The temporary file exists, is empty and has the suffix of `path`. On success it is flushed to the disk and renamed,
    with the permissions that a normal open() gives: those of the file that it replaces, else those of the umask. On any
    exception it is deleted and `path` is as it was. Two writers never mix: the last to end wins. A symbolic link is
    followed. OSError that names `path` where the directory is missing, may not be written to or has no room.
    """
    with _aside(path) as aside:
        yield aside.temporary
        aside.flush()
        aside.temporary.replace(aside.target)
    flush_directory(aside.target.parent)


@contextmanager
def replacing_together(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> Iterator[tuple[Path, Path]]:
    """Write two files of one directory aside, `first` being about `second` and wrong beside any other.

    As `replacing`, of both: on any exception both are as they were. A power cut between the renamings leaves `second`,
    of before or of now, without `first`: never a mix.
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
        with suppress(OSError):  # a file too many harms nobody
            aside.old.unlink(missing_ok=True)
    flush_directory(head.target.parent)


def flush_directory(directory: Path) -> None:
    """Flush what was made or renamed in a directory, where the system can."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


_ADVICE = dict.fromkeys(
    (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS), ": its directory must exist and be writable"
) | {errno.ENOSPC: ": make room on its disk", errno.EDQUOT: ": make room in your quota"}
"""What to do, by what is wrong."""


def said(error: OSError, target: Path) -> OSError:
    """The error for a `target` that cannot be written and is as it was: what is wrong, and what to do."""
    number = error.errno or errno.EIO
    reason = f"cannot write {target.name!r}{_ADVICE.get(number, '')} ({os.strerror(number)}); nothing there has changed"
    return OSError(number, reason, str(target))


@dataclass(frozen=True)
class _Aside:
    """A file that is being written beside the one that it will replace, and where that goes meanwhile."""

    target: Path
    temporary: Path
    old: Path
    permissions: int

    def flush(self) -> None:
        self.temporary.chmod(self.permissions)
        with self.temporary.open("rb+") as file:
            os.fsync(file.fileno())

    def move_away(self, undo: ExitStack) -> None:
        """Move what is to be replaced away; `undo` brings it back."""
        if self.target.exists():
            self.target.replace(self.old)
            undo.callback(self._bring_back)
        else:
            undo.callback(self.target.unlink, missing_ok=True)

    def keep(self, undo: ExitStack) -> None:
        """Give what is to be replaced a second name, or move it away where a file has only one."""
        try:
            os.link(self.target, self.old)
        except OSError:
            self.move_away(undo)
        else:
            undo.callback(self._bring_back)

    def _bring_back(self) -> None:
        self.old.replace(self.target)
        self.old.unlink(missing_ok=True)  # as renaming does nothing where both are names of one file


@contextmanager
def _aside(path: str | os.PathLike[str]) -> Iterator[_Aside]:
    """Make the temporary file; on any exception it is deleted, and an error of the disk names the target."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a directory: give the name of a file in it")
    token = secrets.token_hex(8)
    temporary = target.with_name(f".{token}{target.suffix}")
    try:
        permissions = _create(temporary, target)
        yield _Aside(target, temporary, target.with_name(f".{token}.old{target.suffix}"), permissions)
    except BaseException as error:
        with suppress(OSError):  # which would hide the error
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, temporary, str(temporary)):
            raise said(error, target) from error
        raise


def _create(temporary: Path, target: Path) -> int:
    """Make the temporary file; the permissions that it must end with."""
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return (target if target.exists() else temporary).stat().st_mode & 0o777
    finally:
        os.close(descriptor)
