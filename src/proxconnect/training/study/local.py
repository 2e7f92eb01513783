"""Rows in processes of this machine."""

import os
import sys
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Self, cast

from proxconnect._support import processes
from proxconnect._support.processes import Worker
from proxconnect.training.study.workers import Event, Failed, Order, Progressed, perform

LOG = "log.txt"
"""The file that takes what a row prints, in its folder."""


class Processes:
    """At most `size` processes, started when rows need them and again after their death. A context manager.

    An executor of concurrent.futures would lose all running rows when one process dies, report no exit code, and leave
    its processes waiting when this one is killed.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._idle: list[Worker] = []
        self._busy: dict[Connection, tuple[Worker, Order]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        processes.end([*self._idle, *(worker for worker, _ in self._busy.values())])

    def give(self, order: Order) -> None:
        """Let a process run a row."""
        worker = self._idle.pop() if self._idle else processes.start(_work)
        self._busy[worker.connection] = worker, order
        with suppress(OSError):  # `events` finds that the process is dead
            worker.connection.send(order)

    def events(self) -> list[Event]:
        """Wait a second at most and return what happened."""
        events: list[Event] = []
        for connection in cast(list[Connection], wait(list(self._busy), timeout=1.0)):
            worker, order = self._busy[connection]
            try:
                events.append(connection.recv())
            except (EOFError, OSError):
                connection.close()
                events.append(Failed(order.row.key, worker.death()))
            else:
                if isinstance(events[-1], Progressed):
                    continue
                self._idle.append(worker)
            del self._busy[connection]
        return events


def _work(connection: Connection) -> None:
    """Run the rows that come through the pipe until it closes, which ends a row too when it reports progress."""
    with suppress(EOFError, OSError):
        while True:
            order = connection.recv()
            folder = order.workplace.folder(order.row)
            folder.mkdir(parents=True, exist_ok=True)
            sys.stdout.flush()
            sys.stderr.flush()
            with (folder / LOG).open("ab") as log:  # the terminal is the driver's
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            connection.send(perform(order, connection.send))
