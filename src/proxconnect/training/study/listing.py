"""The rows of a study: how far each is."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxconnect.training.study import ledger
from proxconnect.training.study.rows import Row
from proxconnect.training.study.study import Study
from proxconnect.training.study.workplace import State

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Listed:
    """A row, how far it is, and its re-estimated accuracy where that is known."""

    row: Row
    state: State
    accuracy: float | None


def listed(study: Study) -> list[Listed]:
    """The rows with their states and accuracies."""
    done = {entry.key: entry for entry in ledger.read(study.ledger)}
    return [
        Listed(
            row,
            study.workplace.state(row, done),
            done[row.key].figure("accuracy.reestimated") if row.key in done else None,
        )
        for row in study.rows
    ]


def show(rows: Sequence[Listed], console: "Console") -> None:
    """Print them as a table, and how many are in which state."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for head in ("row", "state", "labels", "accuracy"):
        table.add_column(head, justify="right" if head == "accuracy" else "left")
    for one in rows:
        accuracy = "" if one.accuracy is None else f"{100 * one.accuracy:.2f}"
        cells = (one.row.key, str(one.state), str(one.row), accuracy)
        table.add_row(*map(Text, cells))
    console.print(table)
    words = ", ".join(f"{count} {state}" for state, count in Counter(one.state for one in rows).items())
    console.print(f"{len(rows)} rows: {words}", highlight=False)
