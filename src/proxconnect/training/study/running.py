"""Rows run by a crew: each after the one that it starts from, each finished one a line of the ledger at once."""

from dataclasses import dataclass, field
from typing import Protocol

from proxconnect.training.study.crew import Crew
from proxconnect.training.study.ledger import Entry, Ledger, LedgerError
from proxconnect.training.study.orders import Event, Failed, Finished
from proxconnect.training.study.rows import Row
from proxconnect.training.study.workplace import Workplace


class Watch(Protocol):
    """Who is told what happens."""

    def started(self, row: Row) -> None:
        """A worker was given the row."""

    def progressed(self, row: Row, done: int, total: int) -> None:
        """So many of its optimizer steps are done."""

    def finished(self, row: Row, entry: Entry) -> None:
        """It is in the ledger."""

    def failed(self, row: Row, error: str) -> None:
        """It raised, or its worker died."""

    def waited(self) -> None:
        """Some time went by."""


@dataclass
class Run:
    """Rows that wait, that run and that failed, of one call of the command."""

    waiting: list[Row]
    crew: Crew
    ledger: Ledger
    workplace: Workplace
    threads: int
    watch: Watch
    running: dict[str, Row] = field(default_factory=dict)
    failures: dict[str, Row] = field(default_factory=dict)
    """Rows that failed, and those that would have started from them."""

    def to_the_end(self) -> None:
        """Run all rows. One that fails holds up those that start from it, and no others."""
        while self.waiting or self.running:
            self._give()
            if self.running:
                for event in self.crew.events():
                    self._take(self.running[event.key], event)
            self.watch.waited()

    def _give(self) -> None:
        """Give rows to who is idle, in order."""
        held = {row.key for row in self.waiting} | self.running.keys()
        for row in list(self.waiting):
            if row.after is not None and row.after.key in self.failures:
                self.waiting.remove(row)
                self.failures[row.key] = row
            elif self.crew.room and (row.after is None or row.after.key not in held):
                self.waiting.remove(row)
                self.running[row.key] = row
                self.crew.give(self.workplace.order(row, self.threads))
                self.watch.started(row)

    def _take(self, row: Row, event: Event) -> None:
        match event:
            case Finished():
                del self.running[row.key]
                self._finish(row, event)
            case Failed():
                del self.running[row.key]
                self._fail(row, event.error)
            case _:
                self.watch.progressed(row, event.done, event.total)

    def _finish(self, row: Row, event: Finished) -> None:
        """Append the row to the ledger, unless it ran again only for its checkpoint."""
        try:
            entry = Entry.of(row, event.measured, event.versions, event.started, event.finished)
        except LedgerError as error:
            self._fail(row, str(error))
            return
        if row.key not in self.ledger.entries:
            self.ledger.append(entry)
        self.workplace.error(row).unlink(missing_ok=True)
        self.watch.finished(row, entry)

    def _fail(self, row: Row, error: str) -> None:
        self.failures[row.key] = row
        self.workplace.fail(row, error)
        self.watch.failed(row, error)
