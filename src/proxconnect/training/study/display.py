"""What a terminal shows while rows run."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from proxconnect.training.study.ledger import Entry
from proxconnect.training.study.rows import StudyRow


class Display(Progress):
    """Progress bars for `total` rows and for each that runs, and a printed line for each that ended."""

    def __init__(self, console: Console, total: int) -> None:
        columns = (TextColumn("{task.description}", markup=False), BarColumn(20), MofNCompleteColumn())
        super().__init__(*columns, TimeRemainingColumn(), console=console, transient=True, speed_estimate_period=600.0)
        self._whole = self.add_task(f"{total} rows", total=total)
        self._bars: dict[str, TaskID] = {}
        self._ended, self._total = 0, total

    def start_row(self, row: StudyRow) -> None:
        """Add a bar for a row that starts to run."""
        self._bars[row.key] = self.add_task(f"  {row}", total=None)

    def move_row(self, row: StudyRow, done: int, total: int) -> None:
        """Move the bar of the row to `done` of `total` optimizer steps."""
        self.update(self._bars[row.key], completed=done, total=total)
        self._move()

    def finish_row(self, row: StudyRow, entry: Entry) -> None:
        """Remove the bar of the row, count the row as done, and print its accuracy and time."""
        accuracy, seconds = entry.figure("accuracy.reestimated"), entry.figure("seconds")
        words = f"{'-' if accuracy is None else f'{100 * accuracy:.2f}'} %"
        self._say(row, words if seconds is None else f"{words} in {duration(seconds)}")

    def fail_row(self, row: StudyRow, error: str) -> None:
        """Remove the bar of the row, count the row as done, and print the last line of `error`."""
        self._say(row, f"failed: {error.strip().splitlines()[-1]}")

    def end_row(self, row: StudyRow) -> None:
        """Remove the bar of the row, and count the row as done."""
        self._ended += 1
        self.remove_task(self._bars.pop(row.key))
        self._move()

    def _move(self) -> None:
        """Move the bar of the study to the rows that ended and the shares of those that run."""
        shares = sum(task.percentage / 100 for task in self.tasks if task.id != self._whole)
        self.update(self._whole, completed=self._ended + shares)

    def _say(self, row: StudyRow, outcome: str) -> None:
        self.end_row(row)
        self.console.print(f"{self._ended}/{self._total}  {row}: {outcome}", markup=False, highlight=False)


def duration(seconds: float) -> str:
    """Return a time in words, as "41 s", "12 min" or "3 h 05 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
