"""A parser whose errors are one line, exit codes, the end of each help, and types of arguments."""

import argparse
import os
import re
import sys
import textwrap
from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from enum import IntEnum
from pathlib import Path
from typing import Any, NoReturn

from proxconnect._support import termination
from proxconnect._support.paths import require_target
from proxconnect.cli import streams
from proxconnect.inspection import plots
from proxconnect.layers import Accumulator
from proxconnect.pairs import resolve

EXAMPLES = "examples:"
_NEGATIVE = re.compile(r"-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$|-(inf|infinity|nan)$", re.IGNORECASE)


class Exit(IntEnum):
    """The exit codes of the command `proxconnect`; `MEANINGS` explains them."""

    DONE = 0
    NO = 1
    MISUSE = 2
    UNDECIDED = 3
    CRASHED = 70  # as sysexits.h calls an internal software error
    INTERRUPTED = termination.INTERRUPTED
    UNREAD = 141  # as shells report a program that SIGPIPE ends
    TERMINATED = termination.TERMINATED


MEANINGS: Mapping[Exit, str] = {
    Exit.DONE: "success; for a check, the answer is yes",
    Exit.NO: "the answer is no, or a run failed",
    Exit.MISUSE: "wrong use: arguments, files, missing packages",
    Exit.UNDECIDED: "the check could not decide",
    Exit.CRASHED: "an unexpected error; its traceback is on stderr",
    Exit.INTERRUPTED: "Ctrl-C; finished work is kept",
    Exit.UNREAD: "the output was not read to its end, as in `| head`",
    Exit.TERMINATED: "SIGTERM; finished work is kept",
}
"""The meaning of each code. With 2, and with 1 after a failure, stderr has one line and stdout nothing."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that prints errors without usage, and whose help keeps the lines of description and epilog."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"formatter_class": argparse.RawDescriptionHelpFormatter, **kwargs})
        self._negative_number_matcher = _NEGATIVE  # argparse's own takes -1e3 for an option

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print as argparse does, which would hide that stdout cannot be written."""
        with streams.writing():
            print(message, end="", file=file or sys.stderr)

    def parse_known_args(self, *args: Any, **kwargs: Any) -> tuple[Any, list[str]]:
        """Parse as argparse does, but let a command name its own help when it does not know an argument."""
        namespace, rest = super().parse_known_args(*args, **kwargs)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return namespace, rest

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse a value that is no choice as argparse does, but name the command that is spelled like a wrong one."""
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            for near in get_close_matches(value, action.choices, n=1):
                raise argparse.ArgumentError(None, f"{value!r} is no command: did you mean {near!r}?")
        super()._check_value(action, value)

    def error(self, message: str) -> NoReturn:
        """Print `message` on stderr, wrapped if that is a terminal, and exit with code 2."""
        _say(f"{self.prog}: {message} (see {self.prog} --help)")
        self.exit(Exit.MISUSE)


def epilog(examples: str, exits: Mapping[Exit, str], about: str = "") -> str:
    """Return the end of a help text: `about`, `examples` and the meanings of exit codes, MISUSE always among them."""
    exits = {Exit.MISUSE: "wrong use (one line on stderr)", **exits}
    codes = "\n".join(f"{code.value:<3}  {exits[code]}" for code in sorted(exits))
    sections = {EXAMPLES: examples.strip("\n"), "exit codes:": codes}
    parts = [about.strip("\n"), *(f"{title}\n{textwrap.indent(text, '  ')}" for title, text in sections.items())]
    return "\n\n".join(part for part in parts if part)


def complain(error: BaseException, code: int) -> int:
    """Print the message of `error` on stderr as one line, wrapped on a terminal, and return `code`, the exit code."""
    message = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        message = f"{error.strerror}: {error.filename!r}"  # without the number of the error
    _say(f"proxconnect: {' '.join(message.split())}")
    return code


def _say(message: str) -> None:
    """Print one line on stderr, if it can be written, wrapped at 80 columns on a terminal."""
    if sys.stderr.isatty():
        message = textwrap.fill(message, 80, break_long_words=False, break_on_hyphens=False)
    with suppress(OSError):
        print(message, file=sys.stderr)


def positive(text: str) -> int:
    """Return the whole number above 0 that `text` is; argparse.ArgumentTypeError for other text."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"a positive whole number is needed, got {text!r}")
    return int(text)


def number(text: str) -> float:
    """Return the float that `text` is; argparse.ArgumentTypeError for other text."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a number is needed, got {text!r}; name pairs before it") from None


def accumulator(text: str) -> Accumulator:
    """Return the accumulator of a `text` BITS, which wraps, or BITS:OVERFLOW; else argparse.ArgumentTypeError."""
    bits, _, overflow = text.partition(":")
    try:
        return Accumulator(positive(bits), overflow or "wrap")  # type: ignore[arg-type]  # it checks
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def output_file(text: str) -> Path:
    """Return `text` as a path; argparse.ArgumentTypeError for "-", a directory or a device, or an unwritable folder."""
    if text == "-":
        raise argparse.ArgumentTypeError("stdout is for the results of the command: give the name of a file, got '-'")
    try:
        folder = require_target(text).parent
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{error.strerror}, got {text!r}") from None
    if not os.access(folder, os.W_OK):
        raise argparse.ArgumentTypeError(f"its directory must exist and be writable, got {text!r}")
    return Path(text)


def picture(text: str) -> Path:
    """Return `text` as `output_file` does; argparse.ArgumentTypeError too if it does not end in .png or .svg."""
    path = output_file(text)
    if path.suffix.lower() not in plots.SUFFIXES:
        raise argparse.ArgumentTypeError(f"give a file that ends in {' or '.join(plots.SUFFIXES)}, got {text!r}")
    return path


def pair_name(text: str) -> str:
    """Return `text` if it is the name of a pair in `PAIRS`; argparse.ArgumentTypeError for other text."""
    try:
        return resolve(text).name
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
