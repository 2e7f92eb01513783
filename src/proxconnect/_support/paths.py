"""Checks of paths before anything is read from them or written to them."""

import errno
import os
import re
import stat
from pathlib import Path

_NO_FILE = "it is a pipe, a socket or a device: "
_STREAM = re.compile(r"/dev/(stdin|stdout|stderr|fd/.*)|/proc/.*")
"""Names of open streams, which lead to a regular file if the shell redirects them to one."""


def require_regular(path: Path) -> None:
    """Raise OSError unless `path` is a regular file or a symbolic link to one; IsADirectoryError for a directory.

    A pipe could block forever, and a device may have no end.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"{_NO_FILE}copy what it gives to a file", str(path))


def file_name(path: object, example: str = "network.safetensors") -> str:
    """Return the argument `path` as text; TypeError, with `example`, unless it is a string, bytes or a path."""
    if isinstance(path, str | bytes | os.PathLike):
        return os.fsdecode(path)
    raise TypeError(f"path takes the name of a file, as {example!r}; got {type(path).__name__}")


def require_target(path: object, example: str = "network.safetensors") -> Path:
    """Return `path`, with its links followed; OSError unless it names a regular file or nothing yet.

    IsADirectoryError for a directory and for a name that ends like one; TypeError, with `example`, for what is no path.
    Open streams such as /dev/stdout are refused, too. Permissions are not checked.
    """
    text = file_name(path, example)
    target = Path(os.path.realpath(text))
    if target.is_dir() or text.endswith((os.sep, os.altsep or os.sep)):
        raise IsADirectoryError(errno.EISDIR, "it is a directory: give the name of a file in it", text)
    if _STREAM.match(os.path.abspath(text)) or (target.exists() and not target.is_file()):
        raise OSError(errno.EINVAL, f"{_NO_FILE}give the name of a file", text)
    return target
