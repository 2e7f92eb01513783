"""Warnings of proxconnect as one line on stderr, without the line of code that raised them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import proxconnect

_OURS = Path(proxconnect.__file__).parent


@contextmanager
def warning_lines() -> Iterator[None]:
    """In this context, print a warning that names a file of proxconnect as `proxconnect: warning: MESSAGE`."""
    usual = warnings.formatwarning

    def formatted(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        if _OURS in Path(filename).parents:
            return f"proxconnect: warning: {' '.join(str(message).split())}\n"
        return usual(message, category, filename, lineno, line)

    warnings.formatwarning = formatted
    try:
        yield
    finally:
        warnings.formatwarning = usual
