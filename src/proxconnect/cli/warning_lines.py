"""Warnings of proxconnect as one line on stderr, without their line of code, and none about torch's own code."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import proxconnect

_OURS = Path(proxconnect.__file__).parent


@contextmanager
def warning_lines() -> Iterator[None]:
    """In this context, print a warning that names a file of proxconnect as `proxconnect: warning: MESSAGE`.

    A deprecation that torch raises about its own `LeafSpec`, when it exports and when Lightning trains, is not printed.
    """
    usual = warnings.formatwarning

    def formatted(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        if _OURS in Path(filename).parents:
            return f"proxconnect: warning: {' '.join(str(message).split())}\n"
        return usual(message, category, filename, lineno, line)

    warnings.formatwarning = formatted
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
            yield
    finally:
        warnings.formatwarning = usual
