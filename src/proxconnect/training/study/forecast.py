"""When a study ends, from what finished rows took."""

import heapq
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from proxconnect.training.study.grid import Labels
from proxconnect.training.study.ledger import Entry

_TELLING = 0.05
"""From which share of its steps on a running row tells how long it takes."""


@dataclass(frozen=True)
class Share:
    """A row that runs: the seconds since it was given, and the share of its steps done then and now."""

    labels: Labels
    elapsed: float
    begun: float = 0.0
    done: float = 0.0

    @property
    def seconds(self) -> float | None:
        """What the whole row takes at this pace; None where it is too early to tell."""
        gained = self.done - self.begun
        return self.elapsed / gained if gained >= _TELLING else None


def remaining(running: Sequence[Share], waiting: Sequence[Labels], entries: Iterable[Entry], size: int) -> float | None:
    """Seconds until all is done by `size` workers that take the waiting rows in order; None where nothing tells yet."""
    known = [(entry.labels, seconds) for entry in entries if (seconds := entry.figure("seconds")) is not None]
    known += [(share.labels, share.seconds) for share in running if share.seconds is not None]
    if not known:
        return None
    cache: dict[tuple[tuple[str, str], ...], float] = {}
    free = [0.0] * max(0, size - len(running))
    for share in running:
        if share.seconds is None:
            free.append(max(0.0, (1 - share.begun) * _usual(share.labels, known, cache) - share.elapsed))
        else:
            free.append((1 - share.done) * share.seconds)
    heapq.heapify(free)
    for labels in waiting:
        heapq.heapreplace(free, free[0] + _usual(labels, known, cache))
    return max(free)


def _usual(
    labels: Labels, known: Sequence[tuple[Labels, float]], cache: dict[tuple[tuple[str, str], ...], float]
) -> float:
    """The mean seconds of the rows that share the most labels, whatever their seed."""
    setting = tuple((axis, label) for axis, label in labels.items() if axis != "seed")
    if setting not in cache:
        likeness = [sum(other.get(axis) == label for axis, label in setting) for other, _ in known]
        nearest = max(likeness)
        cache[setting] = statistics.fmean(
            seconds for (_, seconds), alike in zip(known, likeness, strict=True) if alike == nearest
        )
    return cache[setting]
