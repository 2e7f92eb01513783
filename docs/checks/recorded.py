"""What was measured and is kept in files, as pages write it."""

import json
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from proxconnect.training.study.ledger import Entry, newest, read
from proxconnect.training.study.tables import REESTIMATED, differences, frame


def signed(points: float, digits: int = 2) -> str:
    """A difference, with the minus sign of print; 0 has no sign."""
    text = f"{points:+.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}") if float(text) else text[1:]


class Lead(NamedTuple):
    """What one pair has more than another, in points of accuracy: the mean over seeds and its 95 % interval."""

    mean: float
    low: float
    high: float
    seeds: int


@dataclass(frozen=True)
class Study:
    """The ledger of a study."""

    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, root: Path, name: str = "fashion-mnist") -> "Study":
        """One of this repository, by its folder."""
        return cls(tuple(newest(read(root / "studies" / name / "ledger.jsonl"))))

    def chosen(self, labels: str) -> list[Entry]:
        """The rows whose labels have all of these words, by the rule PC++ where rules differ and none is named."""
        wanted = labels.split()
        rules = {word for entry in self.entries for word in entry.labels.get("rule", "").split()}
        if rules and not rules & set(wanted):
            wanted.append("PC++")
        return [entry for entry in self.entries if set(wanted) <= set(" ".join(entry.labels.values()).split())]

    def spread(self, labels: str, less: str = "") -> tuple[float, float]:
        """Mean and standard deviation of the accuracy in %, or of what it is above that of other rows, by seed."""
        below = {entry.labels["seed"]: self._value(entry) for entry in self.chosen(less)} if less else None
        values = [self._value(entry) - (below[entry.labels["seed"]] if below else 0.0) for entry in self.chosen(labels)]
        return statistics.fmean(values), statistics.stdev(values)

    def accuracy(self, labels: str) -> str:
        """As 84.8 ± 0.5."""
        mean, sd = self.spread(labels)
        return f"{mean:.1f} ± {sd:.1f}"

    def of_pair(self, pair: str, labels: str) -> str:
        """The accuracies of one pair, as 59.98 ± 1.03."""
        values = [self._value(entry) for entry in self.chosen(labels) if entry.labels["pair"] == pair]
        return f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}"

    def soft(self, pair: str, labels: str) -> str:
        """The mean accuracy of the soft networks of one pair, as 63.46."""
        values = [e.measured["accuracy"]["soft"] for e in self.chosen(labels) if e.labels["pair"] == pair]
        return f"{100 * statistics.fmean(values):.2f}"

    def lost(self, labels: str, less: str) -> str:
        """The same of what rows lose against others."""
        mean, sd = self.spread(labels, less)
        return f"{-mean:.1f} ± {sd:.1f}"

    def lead(self, one: str, other: str, labels: str, axis: str = "pair") -> Lead:
        """What a pair, or another label of an axis, has more than another, seed by seed."""
        rows = [replace(entry, labels={axis: entry.labels[axis], "seed": entry.labels["seed"]})
                for entry in self.chosen(labels)]  # fmt: skip
        (found,) = differences(frame(rows), axis, one, other).itertuples()
        return Lead(100 * found.mean, 100 * found.low, 100 * found.high, found.seeds)

    def ahead(self, one: str, other: str, labels: str, axis: str = "pair") -> str:
        """As +0.38 (+0.03 to +0.73)."""
        lead = self.lead(one, other, labels, axis)
        return f"{signed(lead.mean)} ({signed(lead.low)} to {signed(lead.high)})"

    @staticmethod
    def _value(entry: Entry) -> float:
        value = entry.figure(REESTIMATED)
        assert value is not None
        return 100 * value


def networks(root: Path) -> int:
    """How many networks of others went from floats to a loaded file, in every mode that was tried."""
    lines = (root / "docs" / "networks.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    failed = {(row["library"], row["name"]) for row in rows if row["error"] is not None}
    return len({(row["library"], row["name"]) for row in rows} - failed)
