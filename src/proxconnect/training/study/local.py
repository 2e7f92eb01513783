"""Rows in processes of this machine."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Self

from proxconnect._support import processes
from proxconnect._support.processes import Worker
from proxconnect.training.study.orders import DriverGoneError, Event, Failed, Order, Progressed, perform

LOG = "log.txt"
"""What a row prints, in its folder."""


class Processes:
    """At most `size` processes, each started when there is a first row for it, and again after its death.

    A context manager: however it is left, the processes end.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._idle: list[Worker] = []
        self._busy: dict[Connection, tuple[Worker, Order]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        processes.end([*self._idle, *(worker for worker, _ in self._busy.values())])

    @property
    def room(self) -> int:
        """How many more rows can be given now."""
        return self.size - len(self._busy)

    def give(self, order: Order) -> None:
        """Let a process run a row."""
        worker = self._idle.pop() if self._idle else processes.start(_work)
        self._busy[worker.connection] = worker, order
        with suppress(OSError):  # of a dead one, which `events` finds
            worker.connection.send(order)

    def events(self) -> list[Event]:
        """What happened since, after a wait of a second at most."""
        return [self._event(connection) for connection in wait(list(self._busy), timeout=1.0)]  # type: ignore[arg-type]  # wait() is typed for sockets and handles too

    def _event(self, connection: Connection) -> Event:
        worker, order = self._busy[connection]
        try:
            event: Event = connection.recv()
        except (EOFError, OSError):
            del self._busy[connection]
            event = Failed(order.key, worker.death())
            connection.close()
            return event
        if not isinstance(event, Progressed):
            del self._busy[connection]
            self._idle.append(worker)
        return event


def _work(connection: Connection) -> None:
    """What a process does: run the rows that it is sent until the pipe closes."""
    with suppress(EOFError, OSError, DriverGoneError):
        while True:
            order = connection.recv()
            _print_into(order)
            connection.send(perform(order, _seldom(connection)))


def _print_into(order: Order) -> None:
    """From now on what this process prints goes to the log of the row, and leaves the terminal to the driver."""
    sys.stdout.flush()
    sys.stderr.flush()
    order.folder.mkdir(parents=True, exist_ok=True)
    log = os.open(order.folder / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def _seldom(connection: Connection) -> Callable[[Progressed], None]:
    """Send progress five times a second at most. Where the driver is gone, this process ends."""
    last = 0.0

    def send(progressed: Progressed) -> None:
        nonlocal last
        if time.monotonic() - last >= 0.2:
            last = time.monotonic()
            try:
                connection.send(progressed)
            except OSError:
                raise DriverGoneError from None

    return send
