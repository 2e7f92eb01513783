"""The folders of rows: checkpoints, logs, errors. You may delete them when a study is done."""

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from proxconnect._support.atomic import replacing
from proxconnect.training.study.rows import Configuration, Row, overridden

CHECKPOINT = "last.ckpt"
"""The last checkpoint of a row, in its folder."""


@dataclass(frozen=True)
class Workplace:
    """The folders of rows within `root`."""

    root: Path

    def folder(self, row: Row) -> Path:
        """Return the folder of a row."""
        return self.root / row.key

    def finished(self, row: Row) -> Path:
        """Return the file with the ledger line of a row that ended well."""
        return self.folder(row) / "finished.json"

    def error(self, row: Row) -> Path:
        """Return the file with the error of a row that failed."""
        return self.folder(row) / "error.txt"

    def configuration(self, row: Row) -> Configuration:
        """Return the configuration of a row, with the checkpoint of the row that it starts from."""
        if row.after is None or row.checkpoint is None:
            return row.configuration
        return overridden(row.configuration, {row.checkpoint: str((self.folder(row.after) / CHECKPOINT).resolve())})

    def fail(self, row: Row, error: str) -> None:
        """Keep the error of a row; the next call of the command tries it again."""
        self.folder(row).mkdir(parents=True, exist_ok=True)
        with replacing(self.error(row)) as temporary:
            temporary.write_text(error, encoding="utf-8")

    def state(self, row: Row, done: Container[str]) -> Literal["done", "failed", "half", "waiting"]:
        """Return how far a row is; `done` has the keys of the ledger."""
        if row.key in done:
            return "done"
        if self.error(row).exists():
            return "failed"
        return "half" if self.folder(row).exists() else "waiting"

    def pending(self, rows: list[Row], done: Container[str]) -> list[Row]:
        """Return the rows that are not done, and before each the row that it starts from if its checkpoint is gone.

        A row of the ledger runs again only for a checkpoint that another row needs.
        """
        result: dict[str, Row] = {}

        def add(row: Row) -> None:
            before = row.after
            if before and not (self.finished(before).exists() and (self.folder(before) / CHECKPOINT).exists()):
                add(before)
            result.setdefault(row.key, row)

        for row in rows:
            if row.key not in done:
                add(row)
        return list(result.values())
