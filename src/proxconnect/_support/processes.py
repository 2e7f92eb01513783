"""Worker processes that talk through pipes."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple

from proxconnect._support.termination import handling


class Worker(NamedTuple):
    """A worker process, and the parent's end of the pipe to it."""

    process: SpawnProcess
    connection: Connection

    def death(self) -> str:
        """Wait up to five seconds for the process to end; return text with its exit code, "None" if it still runs."""
        self.process.join(timeout=5)
        return f"a worker process died with exit code {self.process.exitcode} (-9 is often a lack of memory)"


def available_cores() -> int:
    """Return the number of cores that this process may use, or that the machine has if the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start(target: Callable[..., None], *arguments: Any) -> Worker:
    """Spawn a process that calls `target(pipe, *arguments)`, and ignores Ctrl-C if the main thread starts it."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    # Not a daemon: a daemon may not start processes, as data loaders do.
    process = context.Process(target=target, args=(there, *arguments))
    with handling(signal.SIGINT, signal.SIG_IGN):  # inherited from the first instruction on
        process.start()
    there.close()
    return Worker(process, here)


def end(workers: Sequence[Worker]) -> None:
    """Terminate the processes, kill those that do not end within ten seconds, and close their pipes."""
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.process.join(timeout=10)
        worker.process.kill()
        worker.process.join()
        worker.connection.close()
