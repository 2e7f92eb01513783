"""What a running study shows: rows done and left, those that run, and when it ends."""

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from proxconnect.training.study.forecast import Share, remaining
from proxconnect.training.study.ledger import Entry
from proxconnect.training.study.rows import Row

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from proxconnect.training.study.running import Run

_SECONDS_BETWEEN_ESTIMATES = 2.0


class Display:
    """Bars on a terminal, and a line for each row that ended, there and elsewhere. A context manager."""

    def __init__(self, console: "Console", total: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self.run: Run | None = None
        self._ended, self._total = 0, total
        self._bars = Progress(TextColumn("{task.description}", markup=False), BarColumn(20),
                              TextColumn("{task.fields[note]}"), console=console, transient=True)  # fmt: skip
        self._whole = self._bars.add_task(f"{total} rows", total=total, note="")
        self._tasks: dict[str, TaskID] = {}
        self._shares: dict[str, Share] = {}
        self._starts: dict[str, float] = {}
        self._estimated = -_SECONDS_BETWEEN_ESTIMATES

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def started(self, row: Row) -> None:
        """A bar for the row."""
        self._tasks[row.key] = self._bars.add_task(f"  {row}", total=None, note="starts")
        self._starts[row.key] = time.monotonic()

    def progressed(self, row: Row, done: int, total: int) -> None:
        """Move its bar."""
        self._bars.update(self._tasks[row.key], completed=done, total=total, note=f"{done}/{total} steps")
        share = done / max(total, 1)
        begun = self._shares[row.key].begun if row.key in self._shares else share
        self._shares[row.key] = Share(row.labels, time.monotonic() - self._starts[row.key], begun, share)

    def finished(self, row: Row, entry: Entry) -> None:
        """Its accuracy and its time in a line."""
        accuracy, seconds = entry.figure("accuracy.reestimated"), entry.figure("seconds")
        self._end(row, f"{'-' if accuracy is None else f'{100 * accuracy:.2f}'} %"
                       f"{'' if seconds is None else f' in {_duration(seconds)}'}")  # fmt: skip

    def failed(self, row: Row, error: str) -> None:
        """The last line of its error."""
        self._end(row, f"failed: {error.strip().splitlines()[-1]}")

    def waited(self) -> None:
        """Say when all ends, every few seconds, since an estimate looks at every row."""
        if time.monotonic() - self._estimated < _SECONDS_BETWEEN_ESTIMATES and self._ended < self._total:
            return
        self._estimated = time.monotonic()
        left = self._left()
        note = "" if left is None else f"{_duration(left)} left"
        self._bars.update(
            self._whole, completed=self._ended, description=f"{self._ended}/{self._total} rows", note=note
        )

    def _end(self, row: Row, outcome: str) -> None:
        self._ended += 1
        self._bars.remove_task(self._tasks.pop(row.key))
        self._shares.pop(row.key, None)
        self._bars.console.print(f"{self._ended}/{self._total}  {row}: {outcome}", markup=False, highlight=False)

    def _left(self) -> float | None:
        if self.run is None:
            return None
        now = time.monotonic()
        running = [self._shares.get(key) or Share(row.labels, now - self._starts[key])
                   for key, row in self.run.running.items()]  # fmt: skip
        waiting = [row.labels for row in self.run.waiting]
        return remaining(running, waiting, self.run.ledger.entries.values(), self.run.crew.size)


def _duration(seconds: float) -> str:
    """As "41 s", "12 min" or "3 h 05 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
