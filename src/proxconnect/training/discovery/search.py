"""The file of a search: the settings to be good in, the spaces, the rounds."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Self

from proxconnect.training.discovery.space import Space, Values, read_space
from proxconnect.training.study import yaml_files
from proxconnect.training.study.grid import USUAL_RUN, require_known, require_mapping
from proxconnect.training.study.rows import Configuration, StudyRow, overridden
from proxconnect.training.study.yaml_files import GridError

_KEYS = ("base", "settings", "common", "spaces", "rounds", "confirm", "batch", "seed", "run")


class Round(NamedTuple):
    """A round of a search: how many candidates of each space train, with which seeds, and which changes of the base."""

    candidates: int
    seeds: tuple[int, ...]
    overrides: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A point of a space: its values and its number there, from 1."""

    space: Space
    number: int
    values: Values

    def __str__(self) -> str:
        return f"{self.space.name} {self.number}"


@dataclass(frozen=True)
class Search:
    """A parsed and checked search file; create one with `Search.read`. docs/discover.md has an example."""

    path: Path
    run: str
    """The row function, as "module:callable"."""
    base: Mapping[str, Any]
    settings: Mapping[str, Mapping[str, Any]]
    """By name, the changes of the configuration in which candidates compete."""
    spaces: tuple[Space, ...]
    rounds: tuple[Round, ...]
    confirm: Round | None
    """How the best candidate of each space is confirmed; None if it is not."""
    batch: int
    """How many candidates of a space are proposed before their results are known."""
    seed: int

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the YAML file `path` and the file that its key `base` may name; GridError if one is wrong."""
        content = yaml_files.read(path)
        for key in content:
            require_known(str(key), _KEYS, f"key of {path}")
        base = content.get("base", {})
        if isinstance(base, str):
            base = yaml_files.read(path.parent / base)
        given = require_mapping(content.get("settings", {"": {}}), "settings")
        settings = {str(name): require_mapping(changes, f"settings: {name}") for name, changes in given.items()}
        common = require_mapping(content.get("common", {}), "common")
        for key in common:
            require_known(str(key), ("parameters", "set"), "key of common")
        spaces = require_mapping(content.get("spaces", {}), "spaces")
        rounds = content.get("rounds", [])
        if not spaces or not isinstance(rounds, list) or not rounds:
            raise GridError(f"{path} needs `spaces:` and `rounds:`, as in docs/discover.md")
        read = tuple(_round(given, f"rounds: {number}") for number, given in enumerate(rounds, 1))
        if any(later.candidates > earlier.candidates for earlier, later in pairwise(read)):
            raise GridError("rounds: a later round cannot have more candidates than an earlier one")
        return cls(
            path=path,
            run=str(content.get("run", USUAL_RUN)),
            base=require_mapping(base, "base"),
            settings=settings,
            spaces=tuple(
                read_space(str(n), require_mapping(given, f"spaces: {n}"), common) for n, given in spaces.items()
            ),
            rounds=read,
            confirm=_confirmation(content["confirm"], read) if "confirm" in content else None,
            batch=_whole(content.get("batch", 8), "batch"),
            seed=_whole(content.get("seed", 0), "seed", least=0),
        )

    def configuration(self, candidate: Candidate, setting: str, changes: Mapping[str, Any], seed: int) -> Configuration:
        """Return what a row of `candidate` trains: base, `changes` of a round, the setting, the candidate, the seed."""
        result = overridden(overridden(dict(self.base), changes), self.settings[setting])
        return overridden(result, {**candidate.space.changes(candidate.values), "seed_everything": seed})

    def rows(self, candidate: Candidate, number: int) -> list[StudyRow]:
        """Return the rows of `candidate` in round `number`, from 1: one for each setting and seed."""
        part = self.rounds[number - 1]
        return [
            StudyRow(
                {"round": f"round {number}", "candidate": str(candidate), "setting": setting, "seed": str(seed)},
                self.configuration(candidate, setting, part.overrides, seed), self.run,
            )
            for setting in self.settings for seed in part.seeds
        ]  # fmt: skip


def _round(content: Any, where: str) -> Round:
    given = require_mapping(content, where)
    for key in given:
        require_known(str(key), ("candidates", "seeds", "set"), f"key of {where}")
    seeds = given.get("seeds", [0])
    if not isinstance(seeds, list) or not seeds:
        raise GridError(f"{where}: seeds: {seeds!r} is no list, as [0, 1, 2]")
    return Round(
        _whole(given.get("candidates"), f"{where}: candidates"),
        tuple(_whole(seed, f"{where}: seeds", least=0) for seed in seeds),
        require_mapping(given.get("set", {}), f"{where}: set"),
    )


def _confirmation(content: Any, rounds: tuple[Round, ...]) -> Round:
    """Return the confirmation, a round of one candidate of each space; GridError if its seeds are not fresh."""
    given = require_mapping(content, "confirm")
    for key in given:
        require_known(str(key), ("seeds", "set"), "key of confirm")
    found = _round({"candidates": 1, "seeds": None, **given}, "confirm")
    known = {seed for part in rounds for seed in part.seeds}
    if known & set(found.seeds):
        raise GridError(f"confirm: {min(known & set(found.seeds))} is a seed of the search, too: name fresh ones")
    return found


def _whole(value: Any, where: str, least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise GridError(f"{where} must be a whole number of at least {least}; got {value!r}")
    return value
