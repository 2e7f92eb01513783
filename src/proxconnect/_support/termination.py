"""SIGTERM, by which schedulers and container runtimes ask a process to end before they kill it."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

INTERRUPTED, TERMINATED = 130, 143
"""The exit status after Ctrl-C and after SIGTERM."""


class TerminatedError(SystemExit):
    """The exception for work that SIGTERM ended; uncaught, it exits with `status`. Its text may say what is saved."""

    def __init__(self, message: str = "", status: int = TERMINATED) -> None:
        super().__init__(message)
        self.code: int = status


def end_command_at_ctrl_c() -> None:
    """Let Ctrl-C end the process at once, without a traceback, if it is the command, which still imports torch.

    `interruptible` restores the exception.
    """
    program = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]
    is_command = bool(program) and Path(program[-1]).stem == "proxconnect"
    if is_command and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def interruptible() -> AbstractContextManager[None]:
    """Let Ctrl-C raise KeyboardInterrupt in the context where it would end the process at once."""
    ends = signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    return handling(signal.SIGINT, signal.default_int_handler) if ends else nullcontext()


@contextmanager
def handling(number: signal.Signals, handler: Any) -> Iterator[None]:
    """Set the handler of a signal in the context, and the old one after it; do nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def raising() -> AbstractContextManager[None]:
    """Turn the first SIGTERM in the context into a TerminatedError, and ignore the following ones; see `handling`."""
    return handling(signal.SIGTERM, _raise)


class Notice:
    """A record of SIGTERM: after `listen()`, `came` is True once it came, so that a loop can end at a saved point."""

    def __init__(self) -> None:
        self.came = False

    def listen(self) -> None:
        """Let SIGTERM set `came` and not end the process, until another handler is set.

        Do nothing outside the main thread, since Python can set handlers there only.
        """
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda *_: setattr(self, "came", True))


def ignore_first_sigterm() -> None:
    """Ignore the first SIGTERM, which schedulers send to helper processes too; the second ends the process.

    Call it in the main thread: ValueError in another one.
    """
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))


def _raise(*_: Any) -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)  # not SIG_IGN, which new processes would inherit
    raise TerminatedError
