"""A parser whose errors are one line, exit codes, the end of each help, and types of arguments."""

import argparse
import sys
import textwrap
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any, NoReturn

from proxconnect._support import termination
from proxconnect.inspection import plots
from proxconnect.layers import Accumulator
from proxconnect.pairs import resolve

EXAMPLES = "examples:"


class Exit(IntEnum):
    """The exit codes."""

    DONE = 0
    NO = 1
    MISUSE = 2
    UNDECIDED = 3
    INTERRUPTED = termination.INTERRUPTED
    UNREAD = 141  # as shells report a program that SIGPIPE ends
    TERMINATED = termination.TERMINATED


MEANINGS: Mapping[Exit, str] = {
    Exit.DONE: "done, and what was asked holds",
    Exit.NO: "it does not hold, or what ran failed",
    Exit.MISUSE: "wrong use: arguments, files, absent packages",
    Exit.UNDECIDED: "it could not be told",
    Exit.INTERRUPTED: "Ctrl-C; what is done is kept",
    Exit.UNREAD: "nobody read the output to its end, as in `| head`",
    Exit.TERMINATED: "SIGTERM; what is done is kept",
}
"""The meaning of each code. With 2, and with 1 after a failure, stderr has one line and stdout nothing."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and whose help keeps the lines of description and epilog."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"formatter_class": argparse.RawDescriptionHelpFormatter, **kwargs})

    def error(self, message: str) -> NoReturn:
        """Print one line, and exit."""
        _say(f"{self.prog}: {message} (see {self.prog} --help)")
        self.exit(Exit.MISUSE)


def epilog(examples: str, exits: Mapping[Exit, str], about: str = "") -> str:
    """Format the end of the help of a verb, which may give exit codes its own meanings."""
    codes = "\n".join(f"{code.value:<3}  {meaning}" for code, meaning in exits.items())
    sections = {EXAMPLES: examples.strip("\n"), "exit codes:": codes}
    parts = [about.strip("\n"), *(f"{title}\n{textwrap.indent(text, '  ')}" for title, text in sections.items())]
    return "\n\n".join(part for part in parts if part)


def complain(error: BaseException, code: int) -> int:
    """Print the error in one line on stderr, and return the exit code."""
    _say(f"proxconnect: {' '.join(str(error).split())}")
    return code


def _say(message: str) -> None:
    """Print one line on stderr, wrapped at 80 columns on a terminal."""
    if sys.stderr.isatty():
        message = textwrap.fill(message, 80, break_long_words=False, break_on_hyphens=False)
    print(message, file=sys.stderr)


def positive(text: str) -> int:
    """Parse a whole number above 0."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"a positive whole number is needed, got {text!r}")
    return int(text)


def number(text: str) -> float:
    """Parse a float."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a number is needed, got {text!r}; name pairs before it") from None


def accumulator(text: str) -> Accumulator:
    """Parse BITS or BITS:OVERFLOW."""
    bits, _, overflow = text.partition(":")
    try:
        return Accumulator(positive(bits), overflow or "wrap")  # type: ignore[arg-type]  # it checks
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def picture(text: str) -> Path:
    """Parse the name of a picture."""
    path = Path(text)
    if path.suffix.lower() not in plots.SUFFIXES:
        raise argparse.ArgumentTypeError(f"give a file that ends in {' or '.join(plots.SUFFIXES)}, got {text!r}")
    return path


def pair_name(text: str) -> str:
    """Parse the name of a pair of the catalogue."""
    try:
        return resolve(text).name
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
