"""The rows of a study as a list: how far each is."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from proxconnect.training.study import ledger
from proxconnect.training.study.results import on_terminal
from proxconnect.training.study.rows import Row
from proxconnect.training.study.study import Study
from proxconnect.training.study.tables import Table


def record(row: Row) -> dict[str, Any]:
    """Return what tells the row from others, as plain data."""
    return {"key": row.key, "row": str(row), "labels": row.labels}


def listed(study: Study) -> list[dict[str, Any]]:
    """Return each row as plain data, with its state and its re-estimated accuracy, None if that is not known."""
    done = {entry.key: entry for entry in ledger.read(study.ledger)}
    return [
        record(row) | {
            "state": study.workplace.state(row, done),
            "accuracy": done[row.key].figure("accuracy.reestimated") if row.key in done else None,
        }
        for row in study.rows
    ]  # fmt: skip


def show(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """Print them as a table, and the number of rows in each state."""
    accuracies = ["" if row["accuracy"] is None else f"{100 * row['accuracy']:.2f}" for row in rows]
    lines = [(row["key"], row["state"], row["row"], cell) for row, cell in zip(rows, accuracies, strict=True)]
    console.print(on_terminal(Table("", ("row", "state", "labels", "accuracy"), tuple(lines)), left=3))
    words = ", ".join(f"{count} {state}" for state, count in Counter(row["state"] for row in rows).items())
    console.print(f"{len(rows)} rows: {words}", highlight=False)
