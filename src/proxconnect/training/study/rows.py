"""A row of a study: its configuration, its labels, its folder, and all that its result depends on."""

import hashlib
import json
import platform
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from proxconnect._support.atomic import replacing
from proxconnect.inspection.machine import Machine

RESULTS_SINCE = "0.1.0"
"""The first version of the package whose results are comparable. A release does not change it."""

RESULTS = 1
"""Raise it by one with each change after which a configuration that ran before gives other accuracies.

Examples are other initial values, another order of the data, or another formula of a pair, a rule or a schedule, but
not a faster kernel that rounds differently. Each row then gets another address, so that all run again. A change that
touches some configurations alone stands in `_CHANGES` instead.
"""

_NO_PART = ("cli/", "export/", "huggingface/", "inspection/plots/", "training/discovery/", "training/study/")
"""Folders of the package that cannot change a row's result."""

CHECKPOINT = "last.ckpt"
"""The last checkpoint of a row, in its folder."""

Configuration = dict[str, Any]
"""Nested plain data."""

Labels = dict[str, str]
"""A label for each axis."""


def _trains_binary_on_augmented_pictures(configuration: Configuration) -> bool:
    data, model = configuration.get("data"), configuration.get("model")
    is_float = isinstance(model, Mapping) and "binary" in model and model["binary"] is None
    if is_float or not isinstance(data, Mapping):
        return False
    options, name = data.get("init_args"), str(data.get("class_path", ""))
    is_plain = not name or name.endswith(("Digits", "FashionMnist", "Cifar10", "Cifar100"))
    return not is_plain or (isinstance(options, Mapping) and bool(options.get("flip") or options.get("crop")))


_CHANGES: dict[str, Callable[[Configuration], bool]] = {
    "calibration": _trains_binary_on_augmented_pictures,  # batch norm is re-estimated on augmented pictures
}
"""Changes by name that gave other accuracies to the configurations for which the function is True."""


@dataclass(frozen=True, eq=False)
class StudyRow:
    """One training run of a study; if `after` is given, it starts from the last checkpoint of that row."""

    labels: Labels
    configuration: Configuration
    run: str
    """The function that trains and measures it, as "module:callable"."""
    after: "StudyRow | None" = None
    checkpoint: str | None = None
    """The dotted key of the configuration that takes the path of that checkpoint."""

    @cached_property
    def key(self) -> str:
        """The address of the row, 16 hex digits: a hash of configuration, `run`, `origin` and `results_version()`."""
        return address(self.configuration, self.run, self.origin, results_version(self.configuration))

    @property
    def origin(self) -> dict[str, str] | None:
        """The address of the row that this one starts from, as "row", and the key `checkpoint`; None if none."""
        if self.after is None or self.checkpoint is None:
            return None
        return {"row": self.after.key, "checkpoint": self.checkpoint}

    def __str__(self) -> str:
        return described(self.labels)


def described(labels: Mapping[str, str]) -> str:
    """Return the labels, given by axis, in words, as "bnn++ BW E2E seed 0"; empty labels are left out."""
    return " ".join(f"seed {label}" if axis == "seed" else label for axis, label in labels.items() if label)


def address(configuration: Configuration, run: str, origin: Mapping[str, str] | None, version: str) -> str:
    """Return the address of a row, the start of a SHA-256; `version` is the `results_version()` that it ran with."""
    whole = {"configuration": configuration, "run": run, "after": origin, "results": version}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def results_version(configuration: Configuration) -> str:
    """Return the version of a row's results, which is part of its address, as "0.1.0+1" or "0.1.0+1.calibration".

    It consists of `RESULTS_SINCE`, `RESULTS` and the names of the `_CHANGES` that touch the configuration.
    """
    return ".".join(
        [f"{RESULTS_SINCE}+{RESULTS}", *(name for name, touches in _CHANGES.items() if touches(configuration))]
    )


def versions(threads: int, configuration: Configuration) -> dict[str, Any]:
    """Return the versions that the result of a configuration depends on if it is computed now with `threads` threads.

    The keys are "results", "sources" (a digest), "python", "torch", "lightning" (None if absent), "cpu", "kernels"
    (their instruction set) and "threads".
    """
    machine = Machine.here()
    return {
        "results": results_version(configuration),
        "sources": sources(),
        "python": platform.python_version(),
        "torch": machine.torch,
        "lightning": next((found.version for found in metadata.distributions(name="lightning")), None),
        "cpu": machine.cpu,
        "kernels": machine.instruction_set,
        "threads": threads,
    }


@cache
def sources() -> str:
    """Return a digest of the Python files of proxconnect that can change a row's result, as 16 hex digits."""
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if not name.startswith(_NO_PART):
            digest.update(f"{name}\0{len(path.read_bytes())}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def overridden(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> Configuration:
    """Return a copy of `base` with `overrides`, whose outer keys may be dotted: mappings merge, other values replace.

    An override with another `class_path` drops the `init_args` of the former class.
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
    """The work folder of a study, with a folder for each row, which holds the files of its run, such as checkpoints."""

    root: Path

    def folder(self, row: StudyRow) -> Path:
        """Return the path of the folder of `row`, named by its address; it need not exist yet."""
        return self.root / row.key

    def finished(self, row: StudyRow) -> Path:
        """Return the path of the file that keeps the ledger line of `row` once it has ended well."""
        return self.folder(row) / "finished.json"

    def error(self, row: StudyRow) -> Path:
        """Return the path of the file that keeps the error of `row` if the row failed."""
        return self.folder(row) / "error.txt"

    def configuration(self, row: StudyRow) -> Configuration:
        """Return the configuration to run `row` with: its own and the path of the checkpoint that it starts from."""
        if row.after is None or row.checkpoint is None:
            return row.configuration
        return overridden(row.configuration, {row.checkpoint: str((self.folder(row.after) / CHECKPOINT).resolve())})

    def fail(self, row: StudyRow, error: str) -> None:
        """Write `error` to the error file of `row`, so that its state becomes "failed" if it is not done."""
        self.folder(row).mkdir(parents=True, exist_ok=True)
        with replacing(self.error(row)) as temporary:
            temporary.write_text(error, encoding="utf-8")

    def state(self, row: StudyRow, done: Container[str]) -> Literal["done", "failed", "half", "waiting"]:
        """Return "done" if its address is in `done`, else "failed", "half" (it began) or "waiting" by its folder."""
        if row.key in done:
            return "done"
        if self.error(row).exists():
            return "failed"
        return "half" if self.folder(row).exists() else "waiting"

    def is_complete(self, row: StudyRow) -> bool:
        """Return True if the folder of a row has a finished run and its last checkpoint."""
        return self.finished(row).exists() and (self.folder(row) / CHECKPOINT).exists()

    def pending(self, rows: list[StudyRow], done: Container[str]) -> list[StudyRow]:
        """Return the rows to run, each once and in order: those whose address is not in `done`, and missing origins.

        Before a row comes the row that it starts from if that has no finished run or no checkpoint in this folder.
        """
        result: dict[str, StudyRow] = {}

        def add(row: StudyRow) -> None:
            before = row.after
            if before and not self.is_complete(before):
                add(before)
            result.setdefault(row.key, row)

        for row in rows:
            if row.key not in done:
                add(row)
        return list(result.values())
