"""Files that are there whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write `path` aside: yields a temporary file of its directory, which replaces `path` when the body ends well.

    The temporary file exists, is empty and has the suffix of `path`. On success it is flushed to the disk and renamed,
    with the permissions that a normal open() gives: those of the file that it replaces, else those of the umask. On any
    exception it is deleted and `path` is as it was. Two writers never mix: the last to end wins. A symbolic link is
    followed. OSError where the directory is missing or may not be written to.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{secrets.token_hex(8)}{target.suffix}")
    permissions = _create(temporary, target)
    try:
        yield temporary
        temporary.chmod(permissions)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_directory(target.parent)


def _create(temporary: Path, target: Path) -> int:
    """Make the temporary file; the permissions that it must end with."""
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a directory: give the name of a file in it")
    try:
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except OSError as error:
        reason = f"cannot write {target.name!r}: its directory must exist and be writable ({error.strerror})"
        raise OSError(error.errno, reason, str(target.parent)) from error
    try:
        return (target if target.exists() else temporary).stat().st_mode & 0o777
    finally:
        os.close(descriptor)


def _flush_directory(directory: Path) -> None:
    """Flush the renaming too, where the system can; the file is in its place already."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
