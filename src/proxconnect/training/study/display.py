"""The display of a running study: rows done, rows that run, and the time left."""

from types import TracebackType
from typing import TYPE_CHECKING, Self

from proxconnect.training.study.ledger import Entry
from proxconnect.training.study.rows import Row

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

_SECONDS_OF_SPEED = 600.0
"""The last part of the run from which rich estimates the time left."""


class Display:
    """Bars on a terminal, and a line for each row that ended. A context manager."""

    def __init__(self, console: "Console", total: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}", markup=False), BarColumn(20), MofNCompleteColumn(),
                   TimeRemainingColumn())  # fmt: skip
        self._bars = Progress(*columns, console=console, transient=True, speed_estimate_period=_SECONDS_OF_SPEED)
        self._whole = self._bars.add_task(f"{total} rows", total=total)
        self._tasks: dict[str, TaskID] = {}
        self._ended, self._total = 0, total

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def started(self, row: Row) -> None:
        """Add a bar for the row."""
        self._tasks[row.key] = self._bars.add_task(f"  {row}", total=None)

    def progressed(self, row: Row, done: int, total: int) -> None:
        """Move the bar of the row, and that of the study by its share."""
        self._bars.update(self._tasks[row.key], completed=done, total=total)
        shares = sum(task.percentage / 100 for task in self._bars.tasks if task.id != self._whole)
        self._bars.update(self._whole, completed=self._ended + shares)

    def finished(self, row: Row, entry: Entry) -> None:
        """Print the accuracy and the time of the row."""
        accuracy, seconds = entry.figure("accuracy.reestimated"), entry.figure("seconds")
        words = f"{'-' if accuracy is None else f'{100 * accuracy:.2f}'} %"
        self._say(row, words if seconds is None else f"{words} in {_duration(seconds)}")

    def failed(self, row: Row, error: str) -> None:
        """Print the last line of the error."""
        self._say(row, f"failed: {error.strip().splitlines()[-1]}")

    def ended(self, row: Row) -> None:
        """Remove the bar of the row."""
        self._ended += 1
        self._bars.remove_task(self._tasks.pop(row.key))
        self._bars.update(self._whole, completed=self._ended)

    def _say(self, row: Row, outcome: str) -> None:
        self.ended(row)
        self._bars.console.print(f"{self._ended}/{self._total}  {row}: {outcome}", markup=False, highlight=False)


def _duration(seconds: float) -> str:
    """Return "41 s", "12 min" or "3 h 05 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
