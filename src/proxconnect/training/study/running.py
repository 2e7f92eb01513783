"""Run rows by workers: each after the row that it starts from. Each finished row is a line of the ledger at once."""

from dataclasses import dataclass, field

from proxconnect.training.study.display import Display
from proxconnect.training.study.ledger import Entry, Ledger
from proxconnect.training.study.rows import Row
from proxconnect.training.study.workers import Event, Failed, Order, Workers
from proxconnect.training.study.workplace import Workplace


@dataclass
class Run:
    """Rows that wait, that run and that failed, of one call of the command."""

    waiting: list[Row]
    workers: Workers
    ledger: Ledger
    workplace: Workplace
    threads: int
    display: Display
    running: dict[str, Row] = field(default_factory=dict)
    failures: dict[str, Row] = field(default_factory=dict)
    """Rows that failed, and those that would have started from them."""

    def to_the_end(self) -> None:
        """Run all rows. One that fails holds up those that start from it, and no others."""
        while self.waiting or self.running:
            self._give()
            if self.running:
                for event in self.workers.events():
                    self._take(event)

    def _give(self) -> None:
        """Give rows to idle workers, in order."""
        held = {row.key for row in self.waiting} | self.running.keys()
        for row in list(self.waiting):
            if row.after is not None and row.after.key in self.failures:
                self.waiting.remove(row)
                self.failures[row.key] = row
            elif len(self.running) < self.workers.size and (row.after is None or row.after.key not in held):
                self.waiting.remove(row)
                self.running[row.key] = row
                self.workers.give(Order(row, self.workplace, self.threads))
                self.display.started(row)

    def _take(self, event: Event) -> None:
        match event:
            case Entry():
                row = self.running.pop(event.key)
                if row.key not in self.ledger.entries:  # else it ran again for its checkpoint
                    self.ledger.append(event)
                self.workplace.error(row).unlink(missing_ok=True)
                self.display.finished(row, event)
            case Failed():
                row = self.running.pop(event.key)
                self.failures[row.key] = row
                self.workplace.fail(row, event.error)
                self.display.failed(row, event.error)
            case _:
                self.display.progressed(self.running[event.key], event.done, event.total)
