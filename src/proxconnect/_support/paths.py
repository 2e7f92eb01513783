"""Checks of paths before anything is read from them or written to them."""

import errno
import os
import re
import stat
import tempfile
from pathlib import Path

_NO_FILE = "it is a pipe, a socket or a device: "
_STREAM = re.compile(r"/dev/(stdin|stdout|stderr|fd/.*)|/proc/.*")
"""Names of open streams, which lead to a regular file if the shell redirects them to one."""


def require_regular(path: object) -> Path:
    """Return `path` as a Path; OSError unless it is a regular file or a link to one, TypeError for what is no path.

    A pipe could block forever, and a device may have no end. Directories raise IsADirectoryError.
    """
    path = Path(file_name(path))
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"{_NO_FILE}copy what it gives to a file", str(path))
    return path


def file_name(path: object, example: str = "network.safetensors") -> str:
    """Return the argument `path` as text; TypeError, with `example`, unless it is a string, bytes or a path.

    OSError if the name is not valid UTF-8.
    """
    return _text(path, f"path takes the name of a file, as {example!r}")


def folder_name(path: object, argument: str) -> Path:
    """Return a folder's name as a Path; TypeError, which names `argument`, unless it is a string, bytes or a path.

    OSError if the name is not valid UTF-8.
    """
    return Path(_text(path, f"{argument} takes the name of a folder"))


def _text(path: object, wanted: str) -> str:
    """Return a name as text; OSError if it is not UTF-8, because torch and safetensors do not open such files."""
    if not isinstance(path, str | bytes | os.PathLike):
        raise TypeError(f"{wanted}; got {type(path).__name__}")
    text = os.fsdecode(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise OSError(errno.EILSEQ, "its name is not valid UTF-8: rename it", text) from None
    return text


def require_writable(folder: object, argument: str, names: tuple[str, ...] = ()) -> None:
    """Make the folder if it is missing; OSError unless new files can be written into it, also under `names`.

    Call it before long work whose results go there. A name is refused if a directory, pipe or device has it; the
    permissions of files that exist already are not checked. `argument` names the folder's option in the message.
    """
    place = folder_name(folder, argument)
    if place.exists() and not place.is_dir():
        raise NotADirectoryError(f"{place} is a file: give a folder with {argument}")
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        reason = f"no file can be written into {place} ({error.strerror}): give another folder with {argument}"
        raise OSError(reason) from error
    for name in names:
        require_target(place / name)


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
