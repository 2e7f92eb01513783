"""Finished rows run again: do they agree with the ledger?"""

import math
import random
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from proxconnect.training.study import ledger
from proxconnect.training.study.ledger import Entry, Ledger
from proxconnect.training.study.names import GridError
from proxconnect.training.study.provenance import differences
from proxconnect.training.study.rows import Row
from proxconnect.training.study.statistics import REESTIMATED, frame, next_interval, settings, spreads
from proxconnect.training.study.study import OpenWorkers, Study, require_runnable, run_rows
from proxconnect.training.study.workplace import Workplace

if TYPE_CHECKING:
    from rich.console import Console


class Verdict(NamedTuple):
    """Whether a row agrees with the line of the ledger, and why, in words."""

    agrees: bool
    reason: str


def verify(study: Study, count: int, workers: OpenWorkers, threads: int, console: "Console") -> dict[Row, Verdict]:
    """Run random finished rows again, in folders of their own, with those that they start from, and compare."""
    require_runnable(study.grid.run)
    recorded = {entry.key: entry for entry in ledger.read(study.ledger)}
    finished = [row for row in study.rows if row.key in recorded]
    if not finished:
        raise GridError(f"none of these rows is in {study.ledger} in this version: run the grid first")
    chosen = random.sample(finished, min(count, len(finished)))
    study.workplace.root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=study.workplace.root) as place:  # a cluster shares it
        scratch = replace(study, workplace=Workplace(Path(place)))
        with Ledger.writing(Path(place) / ledger.NAME) as book:
            run_rows(scratch, scratch.workplace.pending(chosen, ()), workers, threads, book, console)
    verdicts = {}
    for row in chosen:
        again = book.entries.get(row.key)
        found = Verdict(False, "it failed") if again is None else verdict(recorded[row.key], again, study.entries())
        verdicts[row] = found
        words = f"{'agrees' if found.agrees else 'DISAGREES'}: {row}: {found.reason}"
        console.print(words, markup=False, highlight=False)
    return verdicts


def verdict(recorded: Entry, again: Entry, entries: Sequence[Entry]) -> Verdict:
    """Compare two runs of a row: its accuracies must be the same to the bit, or the re-estimated one of its setting.

    It is of its setting if it lies where one more seed lies with 95 % confidence. All settings of a network are taken
    to have one standard deviation, since few seeds alone say too little to fail. Without a setting of two seeds only
    the same bits agree.
    """
    if recorded.measured["accuracy"] == again.measured["accuracy"]:
        return Verdict(True, "the same to the bit")
    alike = frame([e for e in entries if e.labels.get("model") == recorded.labels.get("model")])
    before, now = recorded.figure(REESTIMATED), again.figure(REESTIMATED)
    changed = ", ".join(differences(recorded.versions, again.versions)) or "everything as it was"
    if before is None or now is None:
        return Verdict(False, f"{before} then, {now} now ({changed})")
    words, cells = f"{100 * before:.2f} % then, {100 * now:.2f} % now", spreads(alike, REESTIMATED)
    own = cells.iloc[settings(cells).index(settings(frame([recorded]))[0])]
    low, high = next_interval(own, cells)
    if math.isnan(low):
        return Verdict(False, f"{words}; one seed tells no spread ({changed})")
    agrees = low <= now <= high
    where = f"{'within' if agrees else 'outside'} {100 * low:.2f} to {100 * high:.2f} of {own['seeds']} seeds"
    return Verdict(agrees, f"{words}, {where} ({changed})")
