"""Finished rows run again: do they agree with the ledger?"""

from collections.abc import Sequence
from dataclasses import dataclass

from proxconnect.study.ledger import Entry
from proxconnect.study.provenance import differences
from proxconnect.study.statistics import Spread, next_interval, setting_of
from proxconnect.study.tables import REESTIMATED


@dataclass(frozen=True)
class Verdict:
    """Whether a row agrees with the line of the ledger, and why, in words."""

    agrees: bool
    reason: str


def verdict(recorded: Entry, again: Entry, ledger: Sequence[Entry]) -> Verdict:
    """A row agrees whose accuracies are the same to the bit, or else whose re-estimated accuracy is one of its setting.

    That is: it lies where, by the other seeds of the ledger and its own line, one more seed lies with 95 % confidence
    (mean ± t·sd·√(1 + 1/n)). Where the ledger has one seed, nothing tells the spread, and only the same bits agree.
    """
    if recorded.measured["accuracy"] == again.measured["accuracy"]:
        return Verdict(True, "the same to the bit")
    seeds = [e for e in ledger if setting_of(e.labels) == setting_of(recorded.labels)]
    values = [value for e in seeds if (value := e.figure(REESTIMATED.figure)) is not None]
    before, now = recorded.figure(REESTIMATED.figure), again.figure(REESTIMATED.figure)
    changed = ", ".join(differences(recorded.versions, again.versions)) or "everything as it was"
    if before is None or now is None:
        return Verdict(False, f"{before} then, {now} now ({changed})")
    words = f"{100 * before:.2f} % then, {100 * now:.2f} % now"
    interval = next_interval(Spread.of(values))
    if interval is None:
        return Verdict(False, f"{words}; one seed tells no spread ({changed})")
    agrees = interval[0] <= now <= interval[1]
    where = (
        f"{'within' if agrees else 'outside'} {100 * interval[0]:.2f} to {100 * interval[1]:.2f} of {len(values)} seeds"
    )
    return Verdict(agrees, f"{words}, {where} ({changed})")
