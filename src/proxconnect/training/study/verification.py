"""Finished rows run again: do they agree with the ledger?"""

import math
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from proxconnect.training.study import ledger
from proxconnect.training.study.ledger import Entry, Ledger
from proxconnect.training.study.names import GridError
from proxconnect.training.study.rows import Row
from proxconnect.training.study.running import Display, run_all
from proxconnect.training.study.statistics import REESTIMATED, frame, next_interval, settings, spreads
from proxconnect.training.study.study import OpenWorkers, Study, require_runnable
from proxconnect.training.study.workplace import Workplace

Agreement = tuple[bool, str]
"""Whether a row that ran again agrees with the ledger, and the reason in words."""


def verify(study: Study, count: int, workers: OpenWorkers, threads: int, console: Console) -> dict[Row, Agreement]:
    """Run random finished rows again in a new folder, with those that they start from, and compare."""
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
    found: dict[Row, Agreement] = {}
    for row in chosen:
        again = book.entries.get(row.key)
        found[row] = agreement(recorded[row.key], again, study.entries()) if again else (False, "it failed")
        agrees, reason = found[row]
        console.print(f"{'agrees' if agrees else 'DISAGREES'}: {row}: {reason}", markup=False, highlight=False)
    return found


def agreement(recorded: Entry, again: Entry, entries: Sequence[Entry]) -> Agreement:
    """Compare two runs of a row: its accuracies must be the same to the bit, or the re-estimated one of its setting.

    It is of its setting if it lies in the 95 % interval of one more seed. The standard deviation is pooled over all
    settings of a network, since few seeds alone say too little to fail. Without a setting of two seeds only the same
    bits agree.
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
