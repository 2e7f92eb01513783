"""A study: its grid, its ledger and its work folder. Run, list and verify its rows, and write results."""

import math
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Self

from rich.console import Console

from proxconnect._support.paths import require_writable
from proxconnect._support.termination import TerminatedError
from proxconnect.training.study import ledger, results
from proxconnect.training.study.display import Display
from proxconnect.training.study.grid import Grid
from proxconnect.training.study.grid_rows import rows_of, selected
from proxconnect.training.study.ledger import Entry, Ledger
from proxconnect.training.study.rows import StudyRow, Workplace, described
from proxconnect.training.study.running import Workers, run_all
from proxconnect.training.study.tables import REESTIMATED, Table, frame, next_interval, settings, spreads
from proxconnect.training.study.yaml_files import GridError

OpenWorkers = Callable[[], AbstractContextManager[Workers]]


@dataclass(frozen=True)
class Study:
    """A study: its grid, the rows to work on, the path of its ledger, its work folder; create one with `Study.read`."""

    grid: Grid
    rows: list[StudyRow]
    ledger: Path
    workplace: Workplace

    @classmethod
    def read(
        cls, path: Path, only: Mapping[str, Sequence[str]], folder: Path | None = None, work: Path | None = None
    ) -> Self:
        """Read the grid file `path`, and choose the rows with one of the labels `only` on each of its axes.

        The ledger lies in `folder`, by default that of the grid. Checkpoints and logs lie in `work`, by default
        runs/studies/ and the name of `folder`. GridError if the file or `only` is wrong.
        """
        grid = Grid.read(path)
        folder = folder or grid.folder
        work = work or Path("runs/studies") / folder.resolve().name
        return cls(grid, selected(rows_of(grid), grid, only), folder / ledger.NAME, Workplace(work))

    def entries(self) -> list[Entry]:
        """Return for each set of labels in the ledger the entry of the grid's row, or else the newest."""
        return ledger.newest(ledger.read(self.ledger), {row.key for row in rows_of(self.grid)})


def run(study: Study, workers: OpenWorkers, threads: int, limit: int | None, console: Console) -> dict[StudyRow, str]:
    """Run at most `limit` of the study's `Workplace.pending` rows (None: all), and print and write the results.

    Return the rows that failed, or that wait for one that failed, with the reason in words. After Ctrl-C or SIGTERM
    call it again to go on. GridError if the row function does not exist or a row is in the ledger under other labels;
    BlockingIOError if another study writes the ledger, LedgerError if one of its lines is not valid.
    """
    require_runnable(study.grid.run)
    require_writable(study.workplace.root, "--work")
    require_writable(study.ledger.parent, "--folder", (ledger.NAME,))
    with Ledger.writing(study.ledger) as book:
        for row in study.rows:
            if row.key in book.entries and book.entries[row.key].labels != row.labels:
                known = described(book.entries[row.key].labels)
                raise GridError(f"{str(row)!r} is in the ledger as {known!r}: label it so in the grid, or write "
                                "another ledger with --folder")  # fmt: skip
        pending = study.workplace.pending(study.rows, book.entries)[:limit]
        finished, again = (sum(row.key in book.entries for row in rows) for rows in (study.rows, pending))
        words = f"{finished} of {len(study.rows)} rows are done, {len(pending)} to run"
        words += f", {again} of them again for their checkpoints" if again else ""
        untuned = [row for row in study.rows if not study.grid.tuned_for(row.labels)]
        if study.grid.tuned and untuned:
            words += f"; {len(untuned)} have no tuned setting, as {untuned[0]}"
        console.print(words, highlight=False)
        failures: list[StudyRow] = []
        try:
            if pending:
                with workers() as crew, Display(console, len(pending)) as display:
                    failures = run_all(pending, crew, book, study.workplace, threads, display)
        except (KeyboardInterrupt, TerminatedError):
            done = f"{sum(row.key in book.entries for row in study.rows)} of {len(study.rows)}"
            console.print(f"stopped: {done} rows are done; the same command goes on", highlight=False)
            raise
    if book.entries:
        write_results(study, console)
    errors = {row: study.workplace.error(row) for row in failures}
    reasons = {row: f"see {path}" if path.exists() else f"waits for {row.after}" for row, path in errors.items()}
    for row, why in reasons.items():
        console.print(f"failed: {row} ({why})", markup=False, highlight=False, soft_wrap=True)
    return reasons


def write_results(study: Study, console: Console) -> list[Path]:
    """Print the tables of the ledger, and write tables and pictures beside it; GridError if the ledger is empty."""
    entries, folder = study.entries(), study.ledger.parent
    if not entries:
        raise GridError(f"{study.ledger} has no rows yet: run the grid first")
    results.show(entries, study.grid, console)
    paths = results.write(entries, study.grid, folder)
    names = ", ".join(path.relative_to(folder).as_posix() for path in paths[:4])
    more = f" and {len(paths) - 4} more" if len(paths) > 4 else ""
    console.print(f"Wrote {names}{more} in {folder}", highlight=False)
    return paths


def record(row: StudyRow) -> dict[str, Any]:
    """Return a dict of the row's address, "key", and its labels in words, "row", and by axis, "labels"."""
    return {"key": row.key, "row": str(row), "labels": row.labels}


def list_rows(study: Study, console: Console) -> list[dict[str, Any]]:
    """Print the rows of the study, and return the `record` of each with "state" and "accuracy" (None without one)."""
    done = {entry.key: entry for entry in ledger.read(study.ledger)}
    rows = [
        record(row) | {
            "state": study.workplace.state(row, done),
            "accuracy": done[row.key].figure("accuracy.reestimated") if row.key in done else None,
        }
        for row in study.rows
    ]  # fmt: skip
    accuracies = ["" if row["accuracy"] is None else f"{100 * row['accuracy']:.2f}" for row in rows]
    lines = [(row["key"], row["state"], row["row"], cell) for row, cell in zip(rows, accuracies, strict=True)]
    console.print(results.on_terminal(Table("", ("row", "state", "labels", "accuracy"), tuple(lines)), left=3))
    words = ", ".join(f"{count} {state}" for state, count in Counter(row["state"] for row in rows).items())
    console.print(f"{len(rows)} rows: {words}", highlight=False)
    return rows


def require_runnable(run: str) -> None:
    """Import the row function `run`, "module:callable"; GridError if it is not found or cannot be called.

    Any other error that its module raises on import passes through, such as a SyntaxError.
    """
    try:
        found = resolve_name(run)
    except (ImportError, AttributeError, ValueError) as error:
        raise GridError(f"run: {run!r}: {error}") from error
    if not callable(found):
        raise GridError(f"run: {run!r} is of type {type(found).__name__}: name a callable")


def verify(
    study: Study, count: int, workers: OpenWorkers, threads: int, console: Console
) -> dict[StudyRow, tuple[bool, str]]:
    """Run up to `count` random finished rows again in a temporary folder; return and print the `agreement` of each.

    Rows that they start from run first. A row that fails does not agree. GridError if no row is finished or the row
    function does not exist.
    """
    require_runnable(study.grid.run)
    recorded = {entry.key: entry for entry in ledger.read(study.ledger)}
    finished = [row for row in study.rows if row.key in recorded]
    if not finished:
        raise GridError(f"none of these rows is in {study.ledger} in this version: run the grid first")
    chosen = random.sample(finished, min(count, len(finished)))
    study.workplace.root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=study.workplace.root) as place:  # a cluster shares it
        workplace = Workplace(Path(place))
        pending = workplace.pending(chosen, ())
        with (
            Ledger.writing(Path(place) / ledger.NAME) as book,
            workers() as crew,
            Display(console, len(pending)) as display,
        ):
            run_all(pending, crew, book, workplace, threads, display)
    found: dict[StudyRow, tuple[bool, str]] = {}
    for row in chosen:
        again = book.entries.get(row.key)
        found[row] = agreement(recorded[row.key], again, study.entries()) if again else (False, "it failed")
        agrees, reason = found[row]
        console.print(f"{'agrees' if agrees else 'DISAGREES'}: {row}: {reason}", markup=False, highlight=False)
    return found


def agreement(recorded: Entry, again: Entry, entries: Sequence[Entry]) -> tuple[bool, str]:
    """Return whether two runs of a row agree, `recorded` in the ledger and `again`, and the reason in words.

    They agree if all accuracies are equal, or if the re-estimated one of `again` is in the `next_interval` of the
    row's setting. The standard deviation is pooled over the settings in `entries` with the same label "model".
    """
    if recorded.measured["accuracy"] == again.measured["accuracy"]:
        return True, "the same to the bit"
    alike = frame([e for e in entries if e.labels.get("model") == recorded.labels.get("model")])
    before, now = recorded.figure(REESTIMATED), again.figure(REESTIMATED)
    old, new = recorded.versions, again.versions
    names = [name for name in old | new if old.get(name) != new.get(name)]
    changes = [f"{name} {new.get(name)} instead of {old.get(name)}" for name in names]
    changed = ", ".join(changes) or "everything as it was"
    if before is None or now is None:
        return False, f"{before} then, {now} now ({changed})"
    words, cells = f"{100 * before:.2f} % then, {100 * now:.2f} % now", spreads(alike, REESTIMATED)
    own = cells.iloc[settings(cells).index(settings(frame([recorded]))[0])]
    low, high = next_interval(own, cells)
    if math.isnan(low):
        return False, f"{words}; one seed tells no spread ({changed})"
    agrees = low <= now <= high
    where = f"{'within' if agrees else 'outside'} {100 * low:.2f} to {100 * high:.2f} of {own['seeds']} seeds"
    return bool(agrees), f"{words}, {where} ({changed})"
