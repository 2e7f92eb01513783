"""Tables for a terminal, by rich."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def table(*titles: str, left: int = 1) -> "Table":
    """Make an empty table without frame; all but the first `left` columns are aligned to the right."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1), show_edge=False)
    for number, title in enumerate(titles):
        made.add_column(title, no_wrap=True, justify="left" if number < left else "right")
    return made
