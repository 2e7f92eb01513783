"""The ledger: a file of finished rows, one JSON object a line, which only grows. Only writers lock it."""

import errno
import fcntl
import json
import os
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from proxconnect._support import atomic
from proxconnect._support.paths import require_regular
from proxconnect.training.study.rows import Configuration, Labels, StudyRow, address

NAME = "ledger.jsonl"


class LedgerError(ValueError):
    """The error for a line of a ledger, or a result of a row, that is no valid entry; the message names the fault."""


@dataclass(frozen=True)
class Entry:
    """A finished row, as one line of the ledger holds it: its address `key`, its configuration and its results.

    `measured` has accuracies in [0, 1] or None under "accuracy", and what else the row function returned. `after` is
    the row's `origin`. The times are UTC, ISO 8601.
    """

    key: str
    labels: Labels
    measured: dict[str, Any]
    versions: dict[str, Any]
    started: str
    finished: str
    run: str
    after: dict[str, str] | None
    configuration: Configuration

    @classmethod
    def of(
        cls, row: StudyRow, measured: Mapping[str, Any], versions: dict[str, Any], started: str, finished: str
    ) -> Self:
        """Return the entry of `row`, with None for NaN and infinity in `measured`.

        LedgerError if `measured` lacks accuracies, has one outside [0, 1], or does not fit JSON.
        """
        try:
            plain = json.loads(json.dumps(measured), parse_constant=lambda _: None)  # NaN and infinity become None
            return cls.parse(json.dumps({
                "key": row.key, "labels": row.labels, "measured": plain, "versions": versions, "started": started,
                "finished": finished, "run": row.run, "after": row.origin, "configuration": row.configuration,
            }))  # fmt: skip
        except (TypeError, ValueError) as error:
            raise LedgerError(f"what the row measured cannot be written down: {error}") from error

    @classmethod
    def parse(cls, line: str) -> Self:
        """Return the entry in a line of a ledger; ValueError if it is none, or its `key` does not fit the rest."""
        try:
            content = json.loads(line, parse_constant=_refuse)
            _require_fields(content)
            results = content["versions"]["results"]
            expected = address(content["configuration"], content["run"], content["after"], results)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        if content["key"] != expected:
            raise ValueError(f"its key is {content['key']!r}, its content has the address {expected!r}: it was edited")
        return cls(**{name: content[name] for name in cls.__dataclass_fields__})

    def line(self) -> str:
        """Return the entry as one line of JSON, without a line break."""
        return json.dumps(vars(self), ensure_ascii=False, allow_nan=False)

    def figure(self, path: str) -> float | None:
        """Return the number at a dotted path in `measured`, as "accuracy.hard"; None if there is no number."""
        value: Any = self.measured
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None


@dataclass
class Ledger:
    """A ledger file that only this process may write, and its entries by address; open it with `Ledger.writing`."""

    path: Path
    entries: dict[str, Entry]

    @classmethod
    @contextmanager
    def writing(cls, path: Path) -> Iterator[Self]:
        """Lock the file `path` for the `with` body, and yield its ledger; create the file if it is missing.

        A last line that a crash tore moves to a file with the suffix .torn. BlockingIOError if another process has the
        lock; LedgerError if a whole line is not a valid entry.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path, f"another study writes {path}: wait for its end, or give it another --folder"):
            atomic.flush_directory(path.parent)  # it may be new
            _mend(path)
            yield cls(path, {entry.key: entry for entry in read(path)})

    def append(self, entry: Entry) -> None:
        """Add an entry to the file, flushed to the disk, and to `entries`; to neither on an OSError of the disk."""
        _append(self.path, (entry.line() + "\n").encode())
        self.entries[entry.key] = entry


def read(path: Path) -> list[Entry]:
    """Return the entries of the ledger file `path` in order; an empty list if there is no file.

    A last line without a line break is ignored. LedgerError if another line is not a valid entry.
    """
    if not path.exists():
        return []
    require_regular(path)
    entries, wrong = [], []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            entries.append(Entry.parse(line.decode()))
        except ValueError as error:
            wrong.append(f"line {number}: {error}")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise LedgerError(f"{path}: {'; '.join(wrong[:3])}{more}: fix or delete them")
    return entries


def newest(entries: list[Entry], current: Container[str] = ()) -> list[Entry]:
    """Return for each set of labels its last entry, or its last one with an address in `current` if there is one."""
    by_labels: dict[frozenset[tuple[str, str]], Entry] = {}
    for entry in entries:
        labels = frozenset(entry.labels.items())
        if entry.key in current or by_labels.get(labels, entry).key not in current:
            by_labels[labels] = entry
    return list(by_labels.values())


@contextmanager
def locked(path: Path, busy: str | None = None) -> Iterator[None]:
    """Lock the file `path` for the `with` body; if locked, wait or, given the text `busy`, raise BlockingIOError."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if busy is None else fcntl.LOCK_NB))
        except BlockingIOError:
            raise BlockingIOError(busy) from None
        yield


def _mend(path: Path) -> None:
    """Move a torn last line aside, or end it if only its end is missing."""
    require_regular(path)
    content = path.read_bytes()
    whole, tail = content[: content.rfind(b"\n") + 1], content[content.rfind(b"\n") + 1 :]
    if not tail:
        return
    try:
        Entry.parse(tail.decode())
    except ValueError:
        torn = path.with_suffix(".torn")
        torn.touch()
        _append(torn, tail + b"\n")
        atomic.flush_directory(path.parent)
        os.truncate(path, len(whole))
    else:
        _append(path, b"\n")


def _append(path: Path, content: bytes) -> None:
    """Add to the end of a file, and flush it; on an OSError of the disk the file stays as it was."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        before = os.fstat(descriptor).st_size
        try:
            if os.write(descriptor, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, before)
            raise atomic.write_error(error, path) from error
    finally:
        os.close(descriptor)


def _require_fields(content: Any) -> None:
    """Raise ValueError if the content of a line is not an entry's."""
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")
    kinds: dict[str, Any] = {
        "key": str, "labels": dict, "measured": dict, "versions": dict, "started": str, "finished": str, "run": str,
        "after": dict | None, "configuration": dict,
    }  # fmt: skip
    for name, kind in kinds.items():
        if name not in content or not isinstance(content[name], kind):
            raise ValueError(f"{name!r} is {'wrong' if name in content else 'missing'}")
    if not all(isinstance(label, str) for label in content["labels"].values()):
        raise ValueError(f"its labels are not text: {content['labels']}")
    if content["after"] is not None and set(content["after"]) != {"row", "checkpoint"}:
        raise ValueError("'after' is wrong")
    if not isinstance(content["versions"].get("results"), str):
        raise ValueError("'versions' lacks 'results'")
    accuracies = content["measured"].get("accuracy")
    if not isinstance(accuracies, dict) or not accuracies:
        raise ValueError("it has no accuracies")
    for name, value in accuracies.items():
        if value is not None and not (type(value) in (int, float) and 0 <= value <= 1):
            raise ValueError(f"the accuracy {name!r} is {value!r}, which is not in [0, 1]")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
