"""`--json`: one document on stdout, for programs, and all else on stderr."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from proxconnect._support.json_numbers import finite
from proxconnect.cli.parser import Parser

HELP = "print one JSON document, and all else on stderr"


def add_to(command: Parser) -> None:
    """Add the option."""
    command.add_argument("--json", action="store_true", help=HELP)


@contextmanager
def alone(parsed: argparse.Namespace) -> Iterator[None]:
    """With --json, what is printed within goes to stderr, whoever prints it: code of the user, C++, other processes."""
    if not parsed.json:
        yield
        return
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


def write(document: Mapping[str, Any]) -> None:
    """Print the document: numbers that JSON has not, NaN and infinity, are null."""
    print(json.dumps(_plain(document), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    """The value as JSON has it."""
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, str | int | None):
        return value
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value]
