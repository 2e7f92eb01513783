"""SIGTERM: what asks a process to end before it is killed, as schedulers and container runtimes do."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

INTERRUPTED, TERMINATED = 130, 143
"""What a shell says of a program that Ctrl-C ends, and SIGTERM."""


class TerminatedError(SystemExit):
    """SIGTERM came, and what was done is kept; the message says how to go on. Uncaught it is the exit status 143."""

    def __init__(self, message: str = "", status: int = TERMINATED) -> None:
        super().__init__(message)
        self.code: int = status


@contextmanager
def raising() -> Iterator[None]:
    """Within, the first SIGTERM raises TerminatedError, as Ctrl-C raises KeyboardInterrupt; others change nothing.

    In other threads than the main one it does nothing, since no handler can be set there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Notice:
    """Whether SIGTERM came, for what ends by itself where it can go on from."""

    def __init__(self) -> None:
        self.came = False

    def take(self) -> None:
        """From now on note SIGTERM, in the place of whatever it did; whoever gives handlers back ends this.

        In other threads than the main one it does nothing, as `raising`.
        """
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._note)

    def _note(self, *_: Any) -> None:
        self.came = True


def pass_over_one() -> None:
    """Let the first SIGTERM change nothing: a scheduler sends it to helpers too, which the process at work still needs.

    The second one ends the process.
    """
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))


def _raise(*_: Any) -> None:
    signal.signal(signal.SIGTERM, _pass)  # not SIG_IGN, which processes that are started would have too
    raise TerminatedError


def _pass(*_: Any) -> None:
    """What ends is ending."""
