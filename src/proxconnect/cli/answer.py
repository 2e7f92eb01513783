"""Answers of verbs: printed as one JSON document or as text and tables, or one line of what went wrong."""

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table

from proxconnect._support.extras import MissingExtraError
from proxconnect.cli import document
from proxconnect.cli.exits import Exit
from proxconnect.cli.parser import complain


@dataclass(frozen=True)
class Answer:
    """The answer of a verb, for programs and for people."""

    document: Any
    """A mapping or a dataclass, for --json."""
    shown: Iterable[RenderableType]
    """Strings, which are never broken, and whatever else rich prints."""
    status: Exit = Exit.DONE


def print_answer(parsed: argparse.Namespace, find: Callable[[argparse.Namespace], Answer]) -> Exit | int:
    """Print the answer that `find` gives to the arguments, and return the exit code.

    With --json, prints of `find` go to stderr. Errors that a user can mend become one line there.
    """
    try:
        with document.alone(parsed):
            answer = find(parsed)
    except (ValueError, TypeError, OSError, MissingExtraError) as error:
        return complain(error, Exit.MISUSE)
    if parsed.json:
        document.write(answer.document)
        return answer.status
    console = Console(highlight=False)
    console.width = max(console.width, 80)
    for part in answer.shown:
        console.print(part, markup=False, soft_wrap=isinstance(part, str))
    return answer.status


def table(*titles: str, left: int = 1) -> Table:
    """Make an empty table without frame; all but the first `left` columns are aligned to the right."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1), show_edge=False)
    for number, title in enumerate(titles):
        made.add_column(title, no_wrap=True, justify="left" if number < left else "right")
    return made
