"""Answers of verbs: printed as one JSON document or as text and tables, or one line of what went wrong."""

import argparse
import ctypes
import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table

from proxconnect import ProofError
from proxconnect._support.extras import MissingExtraError
from proxconnect.cli import streams
from proxconnect.cli.parser import Exit, complain

JSON_HELP = "print one JSON document, and all else on stderr"


class RunError(RuntimeError):
    """A training run or a process that a verb started failed; the message says why."""


@dataclass(frozen=True)
class Answer:
    """The result of a verb, as data for --json and as text for the terminal, with the exit code."""

    document: Any
    """A mapping or a dataclass, which `print_answer` prints with --json."""
    shown: Iterable[RenderableType]
    """The parts that are printed without --json: strings, whose lines are never wrapped, and rich renderables."""
    status: Exit = Exit.DONE


def print_answer(parsed: argparse.Namespace, find: Callable[[argparse.Namespace], Answer]) -> Exit | int:
    """Call `find(parsed)`, which does the work of a verb, print its answer, and return the exit code.

    With --json, `Answer.document` is printed as JSON, and all that `find` prints goes to stderr. If `find` raises a
    ValueError, TypeError, OSError, MissingExtraError, ProofError or RunError, its message is printed on stderr. The
    exit code is then 2, or 1 for the last two.
    """
    try:
        with keeping_stdout(parsed):
            answer = find(parsed)
    except (ValueError, TypeError, OSError, MissingExtraError) as error:
        return complain(error, Exit.MISUSE)
    except (ProofError, RunError) as error:
        return complain(error, Exit.NO)
    if parsed.json:
        print_document(answer.document)
    else:
        _show(answer.shown)
    return answer.status


def _show(parts: Iterable[RenderableType]) -> None:
    """Print the parts of an answer, at least 80 columns wide."""
    console = Console(highlight=False)
    console.width = max(console.width, 80)
    with streams.writing():
        for part in parts:
            console.print(part, markup=False, soft_wrap=isinstance(part, str))


def table(*titles: str, left: int = 1) -> Table:
    """Return a table without rows or frame; its first `left` columns are aligned left, the others right."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1), show_edge=False)
    for number, title in enumerate(titles):
        made.add_column(title, no_wrap=True, justify="left" if number < left else "right")
    return made


@contextmanager
def keeping_stdout(parsed: argparse.Namespace) -> Iterator[None]:
    """With --json, send all output on stdout in the context to stderr, also that of C++ code and child processes."""
    if not parsed.json:
        yield
        return
    own = sys.stdout
    _flush(own)
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _flush(own)
        os.dup2(stdout, 1)
        os.close(stdout)


def _flush(stream: TextIO) -> None:
    """Write out what a stream of Python and those of C still hold."""
    stream.flush()
    if sys.platform != "win32":
        ctypes.pythonapi.fflush(None)


def print_document(document: Any) -> None:
    """Print a mapping or a dataclass as JSON on stdout, converted by `plain`."""
    text = json.dumps(plain(document), indent=2, allow_nan=False)
    with streams.writing():
        print(text)


def plain(value: Any) -> Any:
    """Return `value` as JSON types.

    Dataclasses and mappings become dicts, paths strings, other iterables lists, and NaN and ±∞ None.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | int | None):
        return value
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value]
