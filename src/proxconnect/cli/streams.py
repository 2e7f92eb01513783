"""The standard streams of the command, which may be closed, full, or too narrow."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_NARROWEST = 20
"""Columns; terminals are wider, and rich prints nothing in 0 columns."""


class OutputError(Exception):
    """Stdout could not be written, as on a full disk; the message is one line."""


def prepare() -> None:
    """Open the null device for each standard stream that is closed, before a file takes its number.

    Replace characters that stdout cannot encode, and ignore a COLUMNS below 20, narrower than any terminal.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # few encodings beside UTF-8 have μ and ∘
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) < _NARROWEST:
        del os.environ["COLUMNS"]


@contextmanager
def writing() -> Iterator[None]:
    """Flush stdout after the context, and raise OutputError if it could not be written; BrokenPipeError as it is."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"stdout cannot be written ({error.strerror}): send it elsewhere") from error


def abandon() -> None:
    """Flush stdout and stderr; redirect one that cannot be written to the null device, so that Python can exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
