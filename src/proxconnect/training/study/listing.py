"""The rows of a study as a list: how far each is."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from proxconnect.training.study import ledger
from proxconnect.training.study.rows import Row
from proxconnect.training.study.study import Study

if TYPE_CHECKING:
    from rich.console import Console


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


def show(rows: Sequence[dict[str, Any]], console: "Console") -> None:
    """Print them as a table, and the number of rows in each state."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for head in ("row", "state", "labels", "accuracy"):
        table.add_column(head, justify="right" if head == "accuracy" else "left")
    for row in rows:
        accuracy = "" if row["accuracy"] is None else f"{100 * row['accuracy']:.2f}"
        table.add_row(*map(Text, (row["key"], row["state"], row["row"], accuracy)))
    console.print(table)
    words = ", ".join(f"{count} {state}" for state, count in Counter(row["state"] for row in rows).items())
    console.print(f"{len(rows)} rows: {words}", highlight=False)
