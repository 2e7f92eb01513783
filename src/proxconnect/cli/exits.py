"""The exit codes of the command, each with one meaning for every verb."""

from collections.abc import Mapping
from enum import IntEnum

from proxconnect._support import termination


class Exit(IntEnum):
    """What the command ends with."""

    DONE = 0
    NO = 1
    MISUSE = 2
    UNDECIDED = 3
    INTERRUPTED = termination.INTERRUPTED
    UNREAD = 141
    """What a shell says of a program that SIGPIPE ends."""
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
"""What each says; 2, and 1 where nothing was found out, come with one line on stderr and nothing on stdout."""
