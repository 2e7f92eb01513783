"""How a worker runs a row: the same in a process here and on a Ray cluster."""

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pkgutil import resolve_name
from typing import NamedTuple, Protocol

import torch

from proxconnect._support.atomic import replacing
from proxconnect._support.termination import TerminatedError
from proxconnect.training.study.ledger import Entry, locked
from proxconnect.training.study.provenance import here
from proxconnect.training.study.rows import Row
from proxconnect.training.study.workplace import Workplace

_SECONDS_BETWEEN_PROGRESS = 0.5


@dataclass(frozen=True)
class Order:
    """A row to run in its folder, from the point at which an earlier run of it stopped."""

    row: Row
    workplace: Workplace
    threads: int


class Progressed(NamedTuple):
    """The optimizer steps of a row that are done, and all that it has."""

    key: str
    done: int
    total: int


class Failed(NamedTuple):
    """A row raised, or the process that ran it died."""

    key: str
    error: str


Event = Progressed | Entry | Failed
"""A report of a worker; an entry is that of a finished row."""


class Workers(Protocol):
    """Processes of this machine or of a cluster that run rows. A context manager, which ends them."""

    size: int
    """How many rows run at once."""

    def give(self, order: Order) -> None:
        """Let a worker run a row."""

    def events(self) -> list[Event]:
        """Wait a second at most and return what happened; each row ends in one Entry or Failed."""


def perform(order: Order, report: Callable[[Progressed], None]) -> Entry | Failed:
    """Run a row, and return any exception of its code as Failed. Signals that end the process pass."""
    torch.set_num_threads(order.threads)
    folder = order.workplace.folder(order.row)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A worker that outlived its driver may be at this row until its next step.
        with locked(folder / "lock"):
            path = order.workplace.finished(order.row)
            if not path.exists():
                return _run(order, report)
            content = json.loads(path.read_text(encoding="utf-8"))  # of which the driver may not have heard
            return Entry.of(order.row, *(content[name] for name in ("measured", "versions", "started", "finished")))
    except TerminatedError:
        raise
    except (Exception, SystemExit):
        return Failed(order.row.key, traceback.format_exc())


def _run(order: Order, report: Callable[[Progressed], None]) -> Entry:
    row, started, last = order.row, _now(), 0.0

    def on_progress(progress: tuple[int, int]) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_PROGRESS:
            last = time.monotonic()
            report(Progressed(row.key, *progress))

    measured = resolve_name(row.run)(order.workplace.configuration(row), order.workplace.folder(row), on_progress)
    entry = Entry.of(row, measured, here(order.threads), started, _now())
    with replacing(order.workplace.finished(row)) as temporary:
        temporary.write_text(entry.line(), encoding="utf-8")
    return entry


def _now() -> str:
    """Return the time, UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
