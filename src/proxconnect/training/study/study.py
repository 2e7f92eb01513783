"""A study: its grid, its ledger and where its rows work; running them and writing what is made of them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Self

from proxconnect._support.termination import TerminatedError
from proxconnect.training.study import ledger, report
from proxconnect.training.study.crew import Crew
from proxconnect.training.study.display import Display
from proxconnect.training.study.grid import Grid
from proxconnect.training.study.ledger import Entry, Ledger
from proxconnect.training.study.names import GridError
from proxconnect.training.study.rows import Row, described, rows_of, selected
from proxconnect.training.study.running import Run
from proxconnect.training.study.workplace import Workplace

if TYPE_CHECKING:
    from rich.console import Console

Only = Mapping[str, Sequence[str]]
"""By axis, the labels of the rows that are meant."""

OpenCrew = Callable[[], AbstractContextManager[Crew]]


@dataclass(frozen=True)
class Study:
    """A grid, its rows (those that are meant), the ledger's file and the folders where rows work."""

    grid: Grid
    rows: list[Row]
    ledger: Path
    workplace: Workplace

    @classmethod
    def read(cls, path: Path, only: Only, folder: Path | None = None, work: Path | None = None) -> Self:
        """The study of a grid file.

        `folder`, where the ledger lies, is by default that of the grid; `work` by default runs/studies/ and its name.
        GridError for what is wrong with the grid or `only`.
        """
        grid = Grid.read(path)
        folder = grid.folder if folder is None else folder
        work = Path("runs/studies") / folder.resolve().name if work is None else work
        rows = selected(rows_of(grid), grid, only)
        return cls(grid, rows, folder / ledger.NAME, Workplace(work))

    @property
    def folder(self) -> Path:
        """Where the ledger, the tables and the pictures lie."""
        return self.ledger.parent

    def entries(self) -> list[Entry]:
        """The ledger, of rows with the same labels that of the grid, else the newest.

        LedgerError where it holds what no study wrote.
        """
        return ledger.newest(ledger.read(self.ledger), {row.key for row in rows_of(self.grid)})


def run(study: Study, crew: OpenCrew, threads: int, limit: int | None, console: "Console") -> dict[Row, str]:
    """Run the rows that are not in the ledger, at most `limit`, and write what is made of it; those that failed, why.

    After Ctrl-C and SIGTERM the ledger holds what is done, and the next call goes on from there.
    """
    require_runnable(study.grid.run)
    study.workplace.root.mkdir(parents=True, exist_ok=True)
    with Ledger.writing(study.ledger) as book:
        _require_same_labels(study.rows, book.entries)
        pending = study.workplace.pending(study.rows, book.entries)[:limit]
        console.print(_intention(study, pending, book.entries), highlight=False)
        try:
            failures = run_rows(study, pending, crew, threads, book, console) if pending else []
        except (KeyboardInterrupt, TerminatedError):
            done = sum(row.key in book.entries for row in study.rows)
            console.print(
                f"stopped: {done} of {len(study.rows)} rows are done; the same command goes on", highlight=False
            )
            raise
    if book.entries:
        write_report(study, console)
    reasons = {row: _why(study, row) for row in failures}
    for row, why in reasons.items():
        console.print(f"failed: {row} ({why})", markup=False, highlight=False, soft_wrap=True)
    return reasons


def _why(study: Study, row: Row) -> str:
    path = study.workplace.error(row)
    return f"see {path}" if path.exists() else f"waits for {row.after}"


def run_rows(
    study: Study, rows: list[Row], crew: OpenCrew, threads: int, book: Ledger, console: "Console"
) -> list[Row]:
    """Run `rows`, with a display; those that failed, or would have started from one that did."""
    with crew() as workers, Display(console, len(rows)) as display:
        display.run = Run(list(rows), workers, book, study.workplace, threads, display)
        display.run.to_the_end()
        return list(display.run.failures.values())


def _intention(study: Study, pending: Sequence[Row], done: Mapping[str, Entry]) -> str:
    """What is done and what will run, in a line or two."""
    finished = sum(row.key in done for row in study.rows)
    again = sum(row.key in done for row in pending)
    words = f"{finished} of {len(study.rows)} rows are done, {len(pending)} to run"
    words += f", {again} of them again for their checkpoints" if again else ""
    untuned = [row for row in study.rows if not study.grid.tuned_for(row.labels)]
    if study.grid.tuned and untuned:
        words += f"; {len(untuned)} have no tuned setting, as {untuned[0]}"
    return words


def write_report(study: Study, console: "Console") -> list[Path]:
    """Print tables of the ledger and write them beside it, with pictures; the paths. GridError where it is empty."""
    entries = study.entries()
    if not entries:
        raise GridError(f"{study.ledger} has no rows yet: run the grid first")
    report.show(entries, study.grid, console)
    paths = report.write(entries, study.grid, study.folder)
    names = ", ".join(path.relative_to(study.folder).as_posix() for path in paths[:4])
    more = f" and {len(paths) - 4} more" if len(paths) > 4 else ""
    console.print(f"Wrote {names}{more} in {study.folder}", highlight=False)
    return paths


def require_runnable(run: str) -> None:
    """GridError where the row function is not there, before each row fails of it."""
    try:
        resolve_name(run)
    except (ImportError, AttributeError) as error:
        raise GridError(f"run: {run!r}: {error}") from error


def _require_same_labels(rows: Sequence[Row], entries: Mapping[str, Entry]) -> None:
    """GridError for a row that the ledger knows under other labels, which tables would take for another row."""
    for row in rows:
        if row.key in entries and entries[row.key].labels != row.labels:
            known = described(entries[row.key].labels)
            raise GridError(f"{str(row)!r} is in the ledger as {known!r}: label it so in the grid, or write another "
                            "ledger with --folder")  # fmt: skip
