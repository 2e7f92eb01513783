"""The folder where rows work, each in its own: checkpoints, logs, errors. It may be deleted when a study is done."""

from collections.abc import Container
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from proxconnect._support.atomic import replacing
from proxconnect.training.study.orders import FINISHED, Order
from proxconnect.training.study.overrides import overridden
from proxconnect.training.study.rows import Row

CHECKPOINT = "last.ckpt"
"""The last checkpoint of a row, in its folder."""

_ERROR = "error.txt"


class State(StrEnum):
    """How far a row is."""

    DONE = "done"
    HALF = "half"
    FAILED = "failed"
    WAITING = "waiting"


@dataclass(frozen=True)
class Workplace:
    """The folders of rows within `root`."""

    root: Path

    def folder(self, row: Row) -> Path:
        """The folder of a row."""
        return self.root / row.key

    def order(self, row: Row, threads: int) -> Order:
        """What a worker is told: the configuration holds the checkpoint of the row before."""
        configuration = row.configuration
        if row.after is not None and row.checkpoint is not None:
            path = str((self.folder(row.after) / CHECKPOINT).resolve())
            configuration = overridden(configuration, {row.checkpoint: path})
        return Order(row.key, row.run, configuration, self.folder(row), threads)

    def can_start_from(self, row: Row) -> bool:
        """Whether the row ran to its end here, and its last checkpoint is still there."""
        return all((self.folder(row) / name).exists() for name in (FINISHED, CHECKPOINT))

    def error(self, row: Row) -> Path:
        """The file with the error of a row that failed."""
        return self.folder(row) / _ERROR

    def fail(self, row: Row, error: str) -> None:
        """Keep the error of a row; it is tried again next time."""
        self.folder(row).mkdir(parents=True, exist_ok=True)
        with replacing(self.error(row)) as temporary:
            temporary.write_text(error, encoding="utf-8")

    def state(self, row: Row, done: Container[str]) -> State:
        """How far a row is, where those with the keys `done` are in the ledger."""
        if row.key in done:
            return State.DONE
        if self.error(row).exists():
            return State.FAILED
        return State.HALF if self.folder(row).exists() else State.WAITING

    def pending(self, rows: list[Row], done: Container[str]) -> list[Row]:
        """The rows that are not done, and before each the one that it starts from where its checkpoint is not here.

        So a row of the ledger runs again only where what it left is gone and needed.
        """
        result: dict[str, Row] = {}
        for row in rows:
            if row.key not in done:
                self._add(row, result)
        return list(result.values())

    def _add(self, row: Row, result: dict[str, Row]) -> None:
        if row.after is not None and not self.can_start_from(row.after):
            self._add(row.after, result)
        result.setdefault(row.key, row)
