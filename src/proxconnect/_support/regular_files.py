"""A check before reading: a pipe could block forever, and a device may have no end."""

import errno
import os
import stat
from pathlib import Path


def require_regular(path: Path) -> None:
    """Raise OSError unless `path` is a regular file or a symbolic link to one; IsADirectoryError for a directory."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device: copy what it gives to a file", str(path))
