"""The rows of a study in a table: how far each is."""

from collections import Counter
from typing import TYPE_CHECKING

from proxconnect.study import ledger
from proxconnect.study.study import Study

if TYPE_CHECKING:
    from rich.console import Console


def list_rows(study: Study, console: "Console") -> None:
    """Print the rows with their states and accuracies."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    done = {entry.key: entry for entry in ledger.read(study.ledger)}
    states = [study.workplace.state(row, done) for row in study.rows]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for head in ("row", "state", "labels", "accuracy"):
        table.add_column(head, justify="right" if head == "accuracy" else "left")
    for row, state in zip(study.rows, states, strict=True):
        accuracy = done[row.key].figure("accuracy.reestimated") if row.key in done else None
        cells = (row.key, str(state), str(row), "" if accuracy is None else f"{100 * accuracy:.2f}")
        table.add_row(*map(Text, cells))
    console.print(table)
    words = ", ".join(f"{count} {state}" for state, count in Counter(states).items())
    console.print(f"{len(study.rows)} rows: {words}", highlight=False)
