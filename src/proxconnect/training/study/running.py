"""Run rows in processes of this machine or of a cluster; each finished row is a line of the ledger at once."""

import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from pkgutil import resolve_name
from typing import Any, NamedTuple, Protocol, cast

import torch

from proxconnect._support import extras, processes
from proxconnect._support.atomic import replacing
from proxconnect._support.processes import Worker
from proxconnect._support.termination import TerminatedError
from proxconnect.training.study.display import Display
from proxconnect.training.study.ledger import Entry, Ledger, locked
from proxconnect.training.study.rows import StudyRow, Workplace, sources, versions

LOG = "log.txt"
"""The file that takes what a row prints, in its folder."""


@dataclass(frozen=True)
class Order:
    """A request to a worker to run `row`, or to go on with it, in `workplace` with `threads` threads of torch."""

    row: StudyRow
    workplace: Workplace
    threads: int


class Progressed(NamedTuple):
    """A report on the row with address `key`: it has done `done` of `total` optimizer steps."""

    key: str
    done: int
    total: int


class Failed(NamedTuple):
    """A report on the row with address `key`: it did not finish; `error` is the traceback or another reason."""

    key: str
    error: str


Event = Progressed | Entry | Failed
"""A report of a worker; an entry is that of a finished row."""


class Workers(Protocol):
    """A protocol for processes, of this machine or a cluster, that run rows."""

    size: int
    """How many rows run at once."""

    def give(self, order: Order) -> None:
        """Start to run a row on a free worker, and do not wait; give at most `size` rows at a time."""

    def events(self) -> list[Event]:
        """Wait a second at most, and return new reports; a row ends in one Entry or Failed."""


def perform(order: Order, report: Callable[[Progressed], None]) -> Entry | Failed:
    """Run a row in this process, unless its folder is complete, and return its entry, or Failed if it raises.

    `report` is called with progress, at most twice a second. TerminatedError and KeyboardInterrupt pass through.
    """
    torch.set_num_threads(order.threads)
    row, folder, finished = order.row, order.workplace.folder(order.row), order.workplace.finished(order.row)
    last = 0.0

    def on_progress(progress: tuple[int, int]) -> None:
        nonlocal last
        if time.monotonic() - last >= 0.5:
            last = time.monotonic()
            report(Progressed(row.key, *progress))

    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A worker that outlived its driver may be at this row until its next step.
        with locked(folder / "lock"):
            if order.workplace.is_complete(row):  # of which the driver may not have heard
                content = json.loads(finished.read_text(encoding="utf-8"))
                return Entry.of(row, *(content[name] for name in ("measured", "versions", "started", "finished")))
            started = _now()
            measured = resolve_name(row.run)(order.workplace.configuration(row), folder, on_progress)
            entry = Entry.of(row, measured, versions(order.threads, row.configuration), started, _now())
            with replacing(finished) as temporary:
                temporary.write_text(entry.line(), encoding="utf-8")
            return entry
    except TerminatedError:
        raise
    except (Exception, SystemExit):
        return Failed(row.key, traceback.format_exc())
    finally:
        gc.collect()  # a run is a cycle that holds its data, and too few objects for Python to look soon


def _now() -> str:
    """Return the time, UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Processes(AbstractContextManager["Processes"]):
    """`Workers` on this machine: at most `size` processes, started when rows need them, and replaced if they die."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._idle: list[Worker] = []
        self._busy: dict[Connection, tuple[Worker, Order]] = {}

    def __exit__(self, *_: object) -> None:
        processes.end([*self._idle, *(worker for worker, _ in self._busy.values())])

    def give(self, order: Order) -> None:
        """Send the row to an idle process, or to a new one if there is none; do not wait."""
        worker = self._idle.pop() if self._idle else processes.start(_work)
        self._busy[worker.connection] = worker, order
        with suppress(OSError):  # `events` finds that the process is dead
            worker.connection.send(order)

    def events(self) -> list[Event]:
        """Wait a second at most, and return one report of each process that has any; a Failed if it died."""
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
    """Run the rows that come through the pipe until it closes; then a running row ends when it reports progress."""
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


class RayCluster(AbstractContextManager["RayCluster"]):
    """`Workers` that run rows as tasks of an existing Ray cluster, each on `threads` cores.

    `address` is as 10.0.0.1:6379; None for that of RAY_ADDRESS or else of this machine. ConnectionError if there is no
    cluster. Leaving the context cancels rows that still run. A row whose machine is lost is run again, at most twice.
    """

    def __init__(self, address: str | None, threads: int) -> None:
        self._ray = extras.require("ray", "ray")
        if not self._ray.is_initialized():
            try:
                self._ray.init(address=address or "auto", log_to_driver=False)
            except ConnectionError as error:
                raise ConnectionError(
                    f"no Ray cluster at {address or 'this machine'}: start one with `ray start --head`, "
                    "or name it, as in --on ray:10.0.0.1:6379"
                ) from error
        self.size = max(1, int(self._ray.cluster_resources().get("CPU", 1)) // threads)
        self._task = self._ray.remote(_perform_on_ray).options(num_cpus=threads, max_retries=2)
        self._progress = extras.require("ray.util.queue", "ray").Queue(actor_options={"num_cpus": 0})
        self._running: dict[Any, str] = {}

    def __exit__(self, *_: object) -> None:
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._progress.shutdown(force=True)

    def give(self, order: Order) -> None:
        """Start to run a row on the cluster, and do not wait."""
        self._running[self._task.remote(order, sources(), self._progress)] = order.row.key

    def events(self) -> list[Event]:
        """Wait a second at most, and return progress and the Entry or Failed of at most one ended row."""
        ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=1.0)
        events: list[Event] = self._progress.get_nowait_batch(self._progress.size())
        for reference in ended:
            key = self._running.pop(reference)
            try:
                events.append(self._ray.get(reference))
            except self._ray.exceptions.RayError as error:
                events.append(Failed(key, f"its Ray task ended: {error}"))
        return events


def _perform_on_ray(order: Order, expected: str, progress: Any) -> Entry | Failed:
    """Run a row as a task, on a machine whose sources have the digest `expected`."""
    if sources() != expected:
        reason = "a machine of the cluster has other sources of proxconnect: install the same everywhere"
        return Failed(order.row.key, reason)
    return perform(order, progress.put)


def run_all(
    rows: Iterable[StudyRow], workers: Workers, ledger: Ledger, workplace: Workplace, threads: int, display: Display
) -> list[StudyRow]:
    """Run all `rows` on `workers`, in order, except that a row waits for the one that it starts from.

    Append each finished row to `ledger` if it is new there, and write errors to `workplace`. Return the rows that
    failed, and those that did not run because they start from a failed one.
    """
    waiting, running, failures = list(rows), dict[str, StudyRow](), dict[str, StudyRow]()
    while waiting or running:
        held = {row.key for row in waiting} | running.keys()
        for row in list(waiting):
            if row.after is not None and row.after.key in failures:
                waiting.remove(row)
                failures[row.key] = row
            elif len(running) < workers.size and (row.after is None or row.after.key not in held):
                waiting.remove(row)
                running[row.key] = row
                workers.give(Order(row, workplace, threads))
                display.start_row(row)
        for event in workers.events() if running else ():
            match event:
                case Entry():
                    row = running.pop(event.key)
                    if row.key not in ledger.entries:  # else it ran again for its checkpoint
                        ledger.append(event)
                    workplace.error(row).unlink(missing_ok=True)
                    display.finish_row(row, event)
                case Failed():
                    row = failures[event.key] = running.pop(event.key)
                    workplace.fail(row, event.error)
                    display.fail_row(row, event.error)
                case _:
                    display.move_row(running[event.key], event.done, event.total)
    return list(failures.values())
