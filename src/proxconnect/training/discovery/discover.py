"""Run a search: rounds of candidates, each trained in every setting; the best of each space go on."""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from proxconnect._support.atomic import replacing
from proxconnect._support.paths import require_regular, require_writable
from proxconnect._support.termination import TerminatedError
from proxconnect.training.discovery.laws import heuristics, refusal
from proxconnect.training.discovery.proposals import propose
from proxconnect.training.discovery.search import Candidate, Search
from proxconnect.training.discovery.space import Space
from proxconnect.training.study import ledger
from proxconnect.training.study.display import Display, duration
from proxconnect.training.study.ledger import Entry, Ledger
from proxconnect.training.study.rows import Configuration, StudyRow, Workplace
from proxconnect.training.study.running import Workers, run_all
from proxconnect.training.study.study import OpenWorkers, require_runnable
from proxconnect.training.study.tables import REESTIMATED
from proxconnect.training.study.yaml_files import GridError

CANDIDATES = "candidates.json"
"""The file with the values of all candidates, beside the ledger."""


class RowError(RuntimeError):
    """The error for a row that failed, which stops a search; the message says where its traceback is."""


@dataclass
class Standing:
    """Where a candidate stands: what its pairs are, and its accuracies in the rounds that it came to."""

    candidate: Candidate
    may_train: bool
    verdict: str
    """What its pairs are, or why they may not train, in words."""
    rounds: list[dict[str, float]] = field(default_factory=list)
    """For each round, accuracies by setting: means over seeds, in [0, 1]."""
    rank: float = math.nan
    """The mean over settings of its rank in its space in the last round that it came to; 1 is the best."""


@dataclass
class Discovery:
    """A search under way: its file, its folder, its ledger and the standings of its candidates."""

    search: Search
    folder: Path
    workplace: Workplace
    console: Console
    standings: dict[str, list[Standing]] = field(default_factory=dict)
    """By space, all candidates in the order of their numbers."""

    def run(self, workers: OpenWorkers, threads: int) -> None:
        """Run all rounds; after Ctrl-C or SIGTERM, run again to go on.

        GridError if the row function does not exist or the files in the folder are of another search, RowError if a row
        failed, BlockingIOError if another process writes the ledger.
        """
        require_runnable(self.search.run)
        require_writable(self.workplace.root, "--work")
        require_writable(self.folder, "--folder", (ledger.NAME, CANDIDATES))
        with Ledger.writing(self.folder / ledger.NAME) as book:
            known = self._known()
            try:
                with workers() as crew:
                    self._first_round(known, book, crew, threads)
                    for number in range(2, len(self.search.rounds) + 1):
                        self._train(self._kept(number), number, book, crew, threads)
                        self._rank(number)
            except (KeyboardInterrupt, TerminatedError):
                self.console.print("stopped: the same command goes on", highlight=False)
                raise

    def winners(self) -> list[Standing]:
        """Return the best candidate of each space in the last round, in the order of the spaces."""
        last = len(self.search.rounds)
        return [min((s for s in ranked if len(s.rounds) == last), key=_order) for ranked in self.standings.values()]

    def entries(self, number: int) -> list[Entry]:
        """Return the entries of the ledger for the rows of round `number`, with the labels of that round."""
        book = {entry.key: entry for entry in ledger.read(self.folder / ledger.NAME)}
        inside = [s for ranked in self.standings.values() for s in ranked if len(s.rounds) >= number]
        rows = [row for standing in inside for row in self.search.rows(standing.candidate, number)]
        return [replace(book[row.key], labels=row.labels) for row in rows if row.key in book]

    def _first_round(self, known: dict[str, list[Any]], book: Ledger, crew: Workers, threads: int) -> None:
        """Propose candidates in batches, each after the results of those before, and train them."""
        search, count = self.search, self.search.rounds[0].candidates
        self.standings = {space.name: [] for space in search.spaces}
        for begin in range(0, count, search.batch):
            size = min(search.batch, count - begin)
            new: list[Standing] = []
            for space in search.spaces:
                ranked, values = self.standings[space.name], known[space.name][begin : begin + size]
                if len(values) < size:
                    tried, ranks = [s.candidate.values for s in ranked], [s.rank for s in ranked]
                    values = values + propose(space, tried, ranks, size - len(values), search.seed)
                admitted = [self._admitted(Candidate(space, begin + i, v)) for i, v in enumerate(values, 1)]
                ranked += admitted
                new += admitted
            if any(len(of) < begin + size for of in known.values()):
                self._save()
            self._train([s for s in new if s.may_train], 1, book, crew, threads)
            self._rank(1)

    def _admitted(self, candidate: Candidate) -> Standing:
        """Return the standing of a new candidate, which may train if its pairs may in every setting."""
        first, found = self.search.rounds[0], dict[str, None]()
        for setting in self.search.settings:
            configuration = self.search.configuration(candidate, setting, first.overrides, first.seeds[0])
            reason = refusal(configuration)
            if reason:
                self.console.print(f"refused: {candidate}: {reason}", markup=False, highlight=False)
                return Standing(candidate, False, f"refused: {reason}")
            found |= dict.fromkeys(heuristics(configuration))
        return Standing(candidate, True, f"heuristic: {', '.join(found)}" if found else "legitimate")

    def _train(self, chosen: Sequence[Standing], number: int, book: Ledger, crew: Workers, threads: int) -> None:
        """Train the rows of round `number` that the ledger lacks, and note accuracies; RowError if one fails."""
        rows = {s.candidate: self.search.rows(s.candidate, number) for s in chosen}
        waiting: dict[str, StudyRow] = {}
        for row in (row for of in rows.values() for row in of if row.key not in book.entries):
            waiting.setdefault(row.key, row)  # two candidates may be the same
        pending = list(waiting.values())
        if pending:
            left = self._forecast(number, len(pending), book, crew.size)
            words = f"round {number}: {len(chosen)} candidates, {len(pending)} rows to run{left}"
            self.console.print(words, highlight=False)
            with Display(self.console, len(pending)) as display:
                failures = run_all(pending, crew, book, self.workplace, threads, display)
            if failures:
                raise RowError(f"{failures[0]} failed, see {self.workplace.error(failures[0])}: fix the space or its "
                               "settings, and run the search again")  # fmt: skip
        for standing in chosen:
            shares: dict[str, list[float]] = {}
            for row in rows[standing.candidate]:
                share = book.entries[row.key].figure(REESTIMATED)
                shares.setdefault(row.labels["setting"], []).append(0.0 if share is None else share)
            standing.rounds.append({setting: statistics.fmean(of) for setting, of in shares.items()})

    def _rank(self, number: int) -> None:
        """Give each candidate its mean rank among its space in round `number`; refused ones are last in round 1."""
        for ranked in self.standings.values():
            inside = [s for s in ranked if len(s.rounds) == number]
            for standing in inside:
                better = [sum(other.rounds[-1][setting] > own for other in inside)
                          for setting, own in standing.rounds[-1].items()]  # fmt: skip
                standing.rank = 1 + statistics.fmean(better)
            for standing in ranked:
                if not standing.may_train:
                    standing.rank = float(len(ranked))

    def _kept(self, number: int) -> list[Standing]:
        """Return the best candidates of each space in the round before `number`, as many as that round takes."""
        count = self.search.rounds[number - 1].candidates
        kept = []
        for name, ranked in self.standings.items():
            inside = sorted((s for s in ranked if len(s.rounds) == number - 1), key=_order)
            if not inside:
                raise GridError(f"spaces: {name}: every candidate was refused: fix the space")
            kept += inside[:count]
        return kept

    def _forecast(self, number: int, rows: int, book: Ledger, size: int) -> str:
        """Return in words the hours of these `rows` and of all later ones, by the rows that are done."""
        done = [e for e in book.entries.values() if e.figure("seconds") is not None]
        if not done:
            return "; a forecast follows"
        pace = statistics.median((e.figure("seconds") or 0.0) / budget(e.configuration) for e in done)
        search = self.search
        cost = [pace * budget(self._example(i)) for i in range(1, len(search.rounds) + 1)]
        per = [len(search.spaces) * len(search.settings) * len(part.seeds) for part in search.rounds]
        first = len(self.standings[search.spaces[0].name])
        waiting = (search.rounds[0].candidates - first) * per[0] if number == 1 else 0
        left = cost[number - 1] * rows + cost[0] * waiting
        left += sum(cost[i] * per[i] * search.rounds[i].candidates for i in range(number, len(search.rounds)))
        return f"; about {duration(left / size)} left"

    def _example(self, number: int) -> Configuration:
        """Return the configuration of a row of round `number`."""
        some = next(s for ranked in self.standings.values() for s in ranked if s.may_train)
        return self.search.rows(some.candidate, number)[0].configuration

    def _known(self) -> dict[str, list[Any]]:
        """Return the values of candidates that a search in this folder had proposed, by space; GridError if wrong."""
        path = self.folder / CANDIDATES
        names = [space.name for space in self.search.spaces]
        if not path.exists():
            return {name: [] for name in names}
        require_regular(path)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            known = {name: list(content[name]) for name in names}
        except (ValueError, KeyError, TypeError) as error:
            raise GridError(f"{path} is of another search, or damaged: give another --folder") from error
        for space in self.search.spaces:
            for values in known[space.name]:
                self._require_ours(space, values, path)
        return known

    def _require_ours(self, space: Space, values: Any, path: Path) -> None:
        try:
            space.require(values, str(path))
        except (GridError, TypeError, AttributeError) as error:
            raise GridError(f"{error}: it is of another search: give another --folder") from error

    def _save(self) -> None:
        content = {name: [s.candidate.values for s in ranked] for name, ranked in self.standings.items()}
        with replacing(self.folder / CANDIDATES) as temporary:
            temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _order(standing: Standing) -> tuple[float, float, int]:
    """Return what candidates of one round are sorted by: mean rank, then accuracy, then number."""
    return standing.rank, -sum(standing.rounds[-1].values()), standing.candidate.number


def budget(configuration: Configuration) -> float:
    """Return the epochs times the pictures of a configuration, where it names them, to scale the time of a row by."""
    found = 1.0
    for path in ("trainer.max_epochs", "data.init_args.subset"):
        value: Any = configuration
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        found *= value if isinstance(value, int | float) and value > 0 else 1.0
    return found
