"""A row of a study: its configuration, its labels, its folder, and an address of all that its result depends on."""

import hashlib
import json
from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from proxconnect._support.atomic import replacing
from proxconnect.version import __version__

RESULTS = 1
"""Raise it by one with each change after which a configuration that ran before gives other accuracies.

Examples are other initial values, another order of the data, or another formula of a pair, a rule or a schedule. A
faster kernel that rounds differently, a new option or new words are none. A raised version gives each row another
address, so that all run again.
"""

CHECKPOINT = "last.ckpt"
"""The last checkpoint of a row, in its folder."""

Configuration = dict[str, Any]
"""Nested plain data."""

Labels = dict[str, str]
"""A label for each axis."""


@dataclass(frozen=True, eq=False)
class StudyRow:
    """One training run of a study: its labels by axis, its configuration, and the row that it starts from.

    `run` names the function that trains and measures it, as "module:callable". If `after` is given, the run starts from
    the last checkpoint of that row, whose path goes into the configuration under the dotted key `checkpoint`.
    """

    labels: Labels
    configuration: Configuration
    run: str
    after: "StudyRow | None" = None
    checkpoint: str | None = None

    @cached_property
    def key(self) -> str:
        """The address of the row, 16 hex digits: a hash of all that its result depends on. It identifies the row."""
        return address(self.configuration, self.run, self.origin, results_version())

    @property
    def origin(self) -> dict[str, str] | None:
        """The row that this one starts from; None if it starts from none.

        "row" is the address of that row, "checkpoint" the configuration's key for the path of its checkpoint.
        """
        if self.after is None or self.checkpoint is None:
            return None
        return {"row": self.after.key, "checkpoint": self.checkpoint}

    def __str__(self) -> str:
        return described(self.labels)


def described(labels: Mapping[str, str]) -> str:
    """Join the labels, given by axis, to a short description, as "bnn++ BW E2E seed 0"; empty labels are left out."""
    return " ".join(f"seed {label}" if axis == "seed" else label for axis, label in labels.items() if label)


def address(configuration: Configuration, run: str, origin: Mapping[str, str] | None, version: str) -> str:
    """Return the address of a row: the first 16 hex digits of the SHA-256 of the arguments, as compact sorted JSON.

    `run` is the row function's "module:callable", `origin` is `StudyRow.origin`, and `version` is `results_version()`.
    """
    whole = {"configuration": configuration, "run": run, "after": origin, "results": version}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def results_version() -> str:
    """Return the version of the package and the number `RESULTS`, as in "0.1.0+1"; it is part of a row's address."""
    return f"{__version__}+{RESULTS}"


def overridden(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> Configuration:
    """Return a copy of the configuration `base` with `overrides`: mappings are merged, other values are replaced.

    Dots in an outer key name nested keys; in inner keys they are plain dots, as in patterns of layers. An override with
    another `class_path` drops the `init_args` of the former class.
    """
    result = dict(base)
    for key, value in overrides.items():
        first, *rest = str(key).split(".")
        for name in reversed(rest):
            value = {name: value}
        result = _merged(result, {first: value})
    return result


def _merged(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> Configuration:
    result = dict(base)
    if overrides.get("class_path", base.get("class_path")) != base.get("class_path"):
        result.pop("init_args", None)
    for name, value in overrides.items():
        before = result.get(name)
        is_mapping = isinstance(value, Mapping)
        result[name] = _merged(before if isinstance(before, Mapping) else {}, value) if is_mapping else value
    return result


@dataclass(frozen=True)
class Workplace:
    """The work folder `root` of a study, which has a folder for each row, named by the row's address.

    A row's folder holds its checkpoints and its log. A path that a method returns need not exist yet.
    """

    root: Path

    def folder(self, row: StudyRow) -> Path:
        """Return the path of the folder of `row`."""
        return self.root / row.key

    def finished(self, row: StudyRow) -> Path:
        """Return the path of the file that keeps the ledger line of `row` once the row has ended well."""
        return self.folder(row) / "finished.json"

    def error(self, row: StudyRow) -> Path:
        """Return the path of the file that keeps the error of `row` if the row failed."""
        return self.folder(row) / "error.txt"

    def configuration(self, row: StudyRow) -> Configuration:
        """Return the configuration to run `row` with: its own, plus the path of the checkpoint that it starts from."""
        if row.after is None or row.checkpoint is None:
            return row.configuration
        return overridden(row.configuration, {row.checkpoint: str((self.folder(row.after) / CHECKPOINT).resolve())})

    def fail(self, row: StudyRow, error: str) -> None:
        """Write the text `error` to the error file of `row`, so that its state becomes "failed"."""
        self.folder(row).mkdir(parents=True, exist_ok=True)
        with replacing(self.error(row)) as temporary:
            temporary.write_text(error, encoding="utf-8")

    def state(self, row: StudyRow, done: Container[str]) -> Literal["done", "failed", "half", "waiting"]:
        """Return how far `row` is; `done` holds the addresses of the rows in the ledger.

        A row not in the ledger is "failed" if it left an error, else "half" if it was started, else "waiting".
        """
        if row.key in done:
            return "done"
        if self.error(row).exists():
            return "failed"
        return "half" if self.folder(row).exists() else "waiting"

    def pending(self, rows: list[StudyRow], done: Container[str]) -> list[StudyRow]:
        """Return the rows to run, each once and in order: those whose address is not in `done`, the ledger's.

        Before a row comes the row that it starts from if that has no finished run or no checkpoint in this folder. So
        a row of the ledger runs again only if another row needs its checkpoint.
        """
        result: dict[str, StudyRow] = {}

        def add(row: StudyRow) -> None:
            before = row.after
            if before and not (self.finished(before).exists() and (self.folder(before) / CHECKPOINT).exists()):
                add(before)
            result.setdefault(row.key, row)

        for row in rows:
            if row.key not in done:
                add(row)
        return list(result.values())
