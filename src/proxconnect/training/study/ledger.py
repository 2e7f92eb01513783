"""The ledger: a file of finished rows, one JSON object a line, which only grows.

A line is written by one call and flushed to the disk. What a crash left of a last line is kept in `ledger.torn` beside
it. Who writes holds a lock; who reads needs none.
"""

import errno
import json
import os
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from proxconnect._support import atomic
from proxconnect._support.json_numbers import finite
from proxconnect._support.regular_files import require_regular
from proxconnect.training.study.grid import Labels
from proxconnect.training.study.locks import locked
from proxconnect.training.study.overrides import Configuration
from proxconnect.training.study.rows import Row, address

NAME = "ledger.jsonl"


class LedgerError(ValueError):
    """The ledger holds what no study wrote; the message names the lines."""


@dataclass(frozen=True)
class Entry:
    """A finished row.

    `measured` holds what the row function returned: accuracies in [0, 1] under "accuracy" (None where not finite), the
    "curve", "seconds", bytes. `versions` says what it was computed with. Times are UTC, ISO 8601.
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
    def of(cls, row: Row, measured: Mapping[str, Any], versions: dict[str, Any], started: str, finished: str) -> Self:
        """The line of `row`. LedgerError where `measured` lacks accuracies or is more than JSON holds."""
        content = {
            "key": row.key, "labels": row.labels, "measured": _finite(dict(measured)), "versions": versions,
            "started": started, "finished": finished, "run": row.run, "after": row.origin,
            "configuration": row.configuration,
        }  # fmt: skip
        try:
            return cls.parse(json.dumps(content))
        except (TypeError, ValueError) as error:
            raise LedgerError(f"what the row measured cannot be written down: {error}") from error

    @classmethod
    def parse(cls, line: str) -> Self:
        """The entry of a line. ValueError with the reason where it is none, or its key is not its content's."""
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
        """The JSON object, in one line without its end."""
        content = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return json.dumps(content, ensure_ascii=False, allow_nan=False)

    def figure(self, path: str) -> float | None:
        """A measured number by its dotted path, as "accuracy.hard"; None where the row has none."""
        value: Any = self.measured
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None


@dataclass
class Ledger:
    """A ledger that this process alone writes, and what is in it by key."""

    path: Path
    entries: dict[str, Entry] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def writing(cls, path: Path) -> Iterator[Self]:
        """Hold the ledger of `path`, made where there is none, mended where a crash tore its last line.

        LockedError while another study holds it; LedgerError for lines that none wrote.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path, f"another study writes {path}: wait for its end, or give it another --folder"):
            atomic.flush_directory(path.parent)  # it may be new
            _mend(path)
            yield cls(path, {entry.key: entry for entry in read(path)})

    def append(self, entry: Entry) -> None:
        """Write one line, whole or not at all. OSError, with the ledger as it was, where the disk refuses it."""
        _append(self.path, (entry.line() + "\n").encode())
        self.entries[entry.key] = entry


def read(path: Path) -> list[Entry]:
    """The entries of a ledger in their order; none where there is no file. A torn last line is passed over.

    LedgerError names the lines that no study wrote, and why.
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
        raise LedgerError(f"{path}: {'; '.join(wrong[:3])}{more}: mend or delete them")
    return entries


def newest(entries: list[Entry], current: Container[str] = ()) -> list[Entry]:
    """Of entries with the same labels one with a `current` key, else the last; in the order of the first."""
    by_labels: dict[tuple[tuple[str, str], ...], Entry] = {}
    for entry in entries:
        known = by_labels.setdefault(tuple(sorted(entry.labels.items())), entry)
        if entry.key in current or known.key not in current:
            by_labels[tuple(sorted(entry.labels.items()))] = entry
    return list(by_labels.values())


def _mend(path: Path) -> None:
    """Move what follows the last end of a line aside, or end it where only the end is missing."""
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
    """Add to the end of a file and flush it; OSError, with the file as it was, where the disk refuses it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        before = os.fstat(descriptor).st_size
        try:
            if os.write(descriptor, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, before)
            raise atomic.said(error, path) from error
    finally:
        os.close(descriptor)


def _require_fields(content: Any) -> None:
    """ValueError with what is wrong with the content of a line."""
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")
    for name, kind in _KINDS.items():
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
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (is_number and 0 <= value <= 1):
            raise ValueError(f"the accuracy {name!r} is {value!r}, which is not in [0, 1]")


_KINDS: dict[str, Any] = {
    "key": str, "labels": dict, "measured": dict, "versions": dict, "started": str, "finished": str, "run": str,
    "after": dict | None, "configuration": dict,
}  # fmt: skip
"""What a line holds."""


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _finite(value: Any) -> Any:
    """The same plain data with None for NaN and infinity, which JSON has not."""
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return finite(value) if isinstance(value, float) else value
