"""The exit codes of the command, each with one meaning for every verb."""

from collections.abc import Mapping
from enum import IntEnum

from proxconnect._support import termination


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
