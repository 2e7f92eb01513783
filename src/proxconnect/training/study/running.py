"""Run rows by workers, each after the row that it starts from, and display how far they are.

Each finished row is a line of the ledger at once.
"""

from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from proxconnect.training.study.ledger import Entry, Ledger
from proxconnect.training.study.rows import Row, Workplace
from proxconnect.training.study.workers import Failed, Order, Workers


class Display(Progress):
    """Bars on a terminal, and a line for each row that ended. A context manager."""

    def __init__(self, console: Console, total: int) -> None:
        columns = (TextColumn("{task.description}", markup=False), BarColumn(20), MofNCompleteColumn())
        super().__init__(*columns, TimeRemainingColumn(), console=console, transient=True, speed_estimate_period=600.0)
        self._whole = self.add_task(f"{total} rows", total=total)
        self._bars: dict[str, TaskID] = {}
        self._ended, self._total = 0, total

    def start_row(self, row: Row) -> None:
        """Add a bar for the row."""
        self._bars[row.key] = self.add_task(f"  {row}", total=None)

    def move_row(self, row: Row, done: int, total: int) -> None:
        """Move the bar of the row, and that of the study."""
        self.update(self._bars[row.key], completed=done, total=total)
        self._move()

    def finish_row(self, row: Row, entry: Entry) -> None:
        """Remove the bar of the row, count the row as done, and print its accuracy and time."""
        accuracy, seconds = entry.figure("accuracy.reestimated"), entry.figure("seconds")
        words = f"{'-' if accuracy is None else f'{100 * accuracy:.2f}'} %"
        self._say(row, words if seconds is None else f"{words} in {_duration(seconds)}")

    def fail_row(self, row: Row, error: str) -> None:
        """Remove the bar of the row, count the row as done, and print the last line of `error`."""
        self._say(row, f"failed: {error.strip().splitlines()[-1]}")

    def end_row(self, row: Row) -> None:
        """Remove the bar of the row, and count the row as done."""
        self._ended += 1
        self.remove_task(self._bars.pop(row.key))
        self._move()

    def _move(self) -> None:
        """Move the bar of the study to the rows that ended and the shares of those that run."""
        shares = sum(task.percentage / 100 for task in self.tasks if task.id != self._whole)
        self.update(self._whole, completed=self._ended + shares)

    def _say(self, row: Row, outcome: str) -> None:
        self.end_row(row)
        self.console.print(f"{self._ended}/{self._total}  {row}: {outcome}", markup=False, highlight=False)


def _duration(seconds: float) -> str:
    """Return "41 s", "12 min" or "3 h 05 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def run_all(
    rows: Iterable[Row], workers: Workers, ledger: Ledger, workplace: Workplace, threads: int, display: Display
) -> list[Row]:
    """Run all rows, in order. Return those that failed, and those that would have started from them."""
    waiting, running, failures = list(rows), dict[str, Row](), dict[str, Row]()
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
