"""Worker processes, each at the other end of a pipe."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple


class Worker(NamedTuple):
    """A process and this end of its pipe."""

    process: SpawnProcess
    connection: Connection

    def death(self) -> str:
        """What to say of the process, which is at its end."""
        self.process.join(timeout=5)
        return f"a worker process died with exit code {self.process.exitcode} (-9 is often a lack of memory)"


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start(target: Callable[..., None], *arguments: Any) -> Worker:
    """A fresh process that calls `target` with the other end of a pipe and `arguments`.

    It ignores Ctrl-C, which is for this process.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    # Not a daemon, which could have no processes of its own, as loaders of data do.
    process = context.Process(target=target, args=(there, *arguments))
    with _interrupts_ignored():
        process.start()
    there.close()
    return Worker(process, here)


def end(workers: Sequence[Worker]) -> None:
    """Terminate processes, whatever they are at; those that do not end within ten seconds are killed."""
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.process.join(timeout=10)
        worker.process.kill()
        worker.process.join()
        worker.connection.close()


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ignore SIGINT, as processes that are started meanwhile will from their first instruction on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
