"""The command with streams as a shell may leave them: each case is a fork, since imports take seconds."""

import os
import sys
from pathlib import Path

from proxconnect.cli.command import main

UNREAD = "|"
"""Stands for a pipe whose reader has ended."""

CASES = [
    ("check bnn+ --mu 2 --json >&-", 1),
    ("check bnn 2>&-", 0),
    ("check bnn- >&- 2>&-", 2),
    ("check bnn- 2>/dev/full", 2),
    ("--version <&- >&- 2>&-", 0),
    ("check bnn >/dev/full", 2),
    ("check bnn --json >/dev/full", 2),
    ("--version >/dev/full 2>/dev/full", 2),
    ("--version >/dev/full", 2),
    ("check --help >/dev/full", 2),
    (f"check bnn+ >{UNREAD}", 141),
    (f"check bnn --json >{UNREAD}", 141),
]
"""Commands and their exit codes."""
NO_EXIT = 99
"""The exit code of a case that ended by an exception."""
NAMES = ("stdin", "stdout", "stderr")


def redirect(word: str) -> None:
    """Do as a shell does before it starts Python, and as Python does when it starts."""
    number = {"<": 0, ">": 1, "2": 2}[word[0]]
    if word.endswith("&-"):
        os.close(number)
        setattr(sys, NAMES[number], None)
    else:
        os.dup2(_opened(word.partition(">")[2]), number)
        setattr(sys, NAMES[number], os.fdopen(number, "w", buffering=1 if number == 2 else -1, closefd=False))


def _opened(target: str) -> int:
    if target != UNREAD:
        return os.open(target, os.O_WRONLY)
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def run(command: str, log: Path) -> int:
    """The exit code of a command in a process of its own, whose stdout and stderr are the file unless redirected."""
    child = os.fork()
    if child == 0:
        try:
            _be(command, log)
        finally:
            os._exit(NO_EXIT)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _be(command: str, log: Path) -> None:
    for word in (f">{log}", f"2>{log}", *(word for word in command.split() if word[0] in "<>" or word[:2] == "2>")):
        redirect(word)
    code = main([word for word in command.split() if word[0] not in "<>" and word[:2] != "2>"])
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # as Python does in the end, which makes the exit code 120 if it fails
    os._exit(code)
