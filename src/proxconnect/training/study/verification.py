"""Finished rows run again: do they agree with the ledger?"""

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from proxconnect.training.study import ledger
from proxconnect.training.study.ledger import Entry, Ledger
from proxconnect.training.study.names import GridError
from proxconnect.training.study.provenance import differences
from proxconnect.training.study.rows import Row
from proxconnect.training.study.statistics import Pooled, Spread, cells, next_interval, setting_of
from proxconnect.training.study.study import OpenCrew, Study, require_runnable, run_rows
from proxconnect.training.study.tables import REESTIMATED
from proxconnect.training.study.workplace import Workplace

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Verdict:
    """Whether a row agrees with the line of the ledger, and why, in words."""

    agrees: bool
    reason: str


def verify(study: Study, count: int, crew: OpenCrew, threads: int, console: "Console") -> dict[Row, Verdict]:
    """Run random finished rows again, in folders of their own, and say whether they agree.

    What they start from is run again too.
    """
    require_runnable(study.grid.run)
    recorded = {entry.key: entry for entry in ledger.read(study.ledger)}
    finished = [row for row in study.rows if row.key in recorded]
    if not finished:
        raise GridError(f"none of these rows is in {study.ledger} in this version: run the grid first")
    chosen = random.sample(finished, min(count, len(finished)))
    study.workplace.root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=study.workplace.root) as place:  # which a cluster shares
        scratch = Study(study.grid, chosen, Path(place) / ledger.NAME, Workplace(Path(place)))
        with Ledger.writing(scratch.ledger) as book:
            run_rows(scratch, scratch.workplace.pending(chosen, ()), crew, threads, book, console)
    verdicts = {}
    for row in chosen:
        again = book.entries.get(row.key)
        found = Verdict(False, "it failed") if again is None else verdict(recorded[row.key], again, study.entries())
        verdicts[row] = found
        words = f"{'agrees' if found.agrees else 'DISAGREES'}: {row}: {found.reason}"
        console.print(words, markup=False, highlight=False)
    return verdicts


def verdict(recorded: Entry, again: Entry, entries: Sequence[Entry]) -> Verdict:
    """A row agrees whose accuracies are the same to the bit, or else whose re-estimated accuracy is one of its setting.

    That is: it lies where one more seed lies with 95 % confidence, by the mean of the n seeds of its setting and the
    standard deviation that all settings of its network are taken to have in common (mean ± t·sd·√(1 + 1/n)), since few
    seeds alone say too little to fail. Without a setting of two seeds only the same bits agree.
    """
    if recorded.measured["accuracy"] == again.measured["accuracy"]:
        return Verdict(True, "the same to the bit")
    alike = [e for e in entries if e.labels.get("model") == recorded.labels.get("model")]
    spreads = {key: Spread.of(values) for key, values in cells(alike, REESTIMATED.figure).items()}
    before, now = recorded.figure(REESTIMATED.figure), again.figure(REESTIMATED.figure)
    changed = ", ".join(differences(recorded.versions, again.versions)) or "everything as it was"
    if before is None or now is None:
        return Verdict(False, f"{before} then, {now} now ({changed})")
    words = f"{100 * before:.2f} % then, {100 * now:.2f} % now"
    pooled, own = Pooled.of(spreads.values()), spreads[tuple(setting_of(recorded.labels).items())]
    if pooled is None:
        return Verdict(False, f"{words}; one seed tells no spread ({changed})")
    low, high = next_interval(own, pooled)
    agrees = low <= now <= high
    where = f"{'within' if agrees else 'outside'} {100 * low:.2f} to {100 * high:.2f} of {own.count} seeds"
    return Verdict(agrees, f"{words}, {where} ({changed})")
