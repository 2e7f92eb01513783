"""Run rows by workers: each after the row that it starts from. Each finished row is a line of the ledger at once."""

from collections.abc import Iterable

from proxconnect.training.study.display import Display
from proxconnect.training.study.ledger import Entry, Ledger
from proxconnect.training.study.rows import Row
from proxconnect.training.study.workers import Failed, Order, Workers
from proxconnect.training.study.workplace import Workplace


def run_all(
    rows: Iterable[Row], workers: Workers, ledger: Ledger, workplace: Workplace, threads: int, display: Display
) -> list[Row]:
    """Run all rows, in order. Return those that failed, and those that would have started from them."""
    waiting, running, failures = list(rows), dict[str, Row](), dict[str, Row]()
    while waiting or running:
        held = {row.key for row in waiting} | running.keys()
        for row in list(waiting):
            if row.after is not None and row.after.key in failures:
                waiting.remove(row)
                failures[row.key] = row
            elif len(running) < workers.size and (row.after is None or row.after.key not in held):
                waiting.remove(row)
                running[row.key] = row
                workers.give(Order(row, workplace, threads))
                display.start_row(row)
        for event in workers.events() if running else ():
            match event:
                case Entry():
                    row = running.pop(event.key)
                    if row.key not in ledger.entries:  # else it ran again for its checkpoint
                        ledger.append(event)
                    workplace.error(row).unlink(missing_ok=True)
                    display.finish_row(row, event)
                case Failed():
                    row = failures[event.key] = running.pop(event.key)
                    workplace.fail(row, event.error)
                    display.fail_row(row, event.error)
                case _:
                    display.move_row(running[event.key], event.done, event.total)
    return list(failures.values())
