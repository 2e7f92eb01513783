"""The plan of a conversion: what becomes binary, what stays float and why."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxconnect._support.text import plain, shortened
from proxconnect.layers import Accumulator

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Row:
    """What happens to one layer."""

    name: str
    """Its qualified name; "" for the model itself."""
    kind: str
    """The name of its class, before."""
    weights: str | None
    """The name of the pair of its weights; None where it stays float."""
    activations: str | None
    """The name of the pair of its inputs; None where they stay float."""
    reason: str
    """Why it, or its input, stays float; empty where there is nothing to say."""
    aliases: tuple[str, ...] = ()
    """The further names that the same module is registered under."""

    @property
    def outcome(self) -> str:
        """The pairs of its weights and inputs, or "float" and why."""
        pairs = "float" if self.weights is None else f"{self.weights}, {self.activations or 'float'}"
        notes = [self.reason] if self.reason else []
        return ": ".join([pairs, "; ".join([*notes, *(f"also {alias}" for alias in self.aliases)])]).removesuffix(": ")


@dataclass(frozen=True)
class Plan:
    """What `binarize` does to a model, as plain data; `str()` and rich print it as a table."""

    rows: tuple[Row, ...]
    """One for each module with a weight of two dimensions or more, norms excepted, in order of registration."""
    scale: str | None
    """What shares a scale."""
    accumulator: Accumulator | None
    """What holds the sums of layers with binary inputs; None for no limit."""
    padding_value: int
    """What convolutions with binary inputs pad with."""

    @property
    def binary(self) -> tuple[str, ...]:
        """The names of the layers that become binary."""
        return tuple(row.name for row in self.rows if row.weights is not None)

    @property
    def floats(self) -> dict[str, str]:
        """Why each of the other layers stays float, by name."""
        return {row.name: row.reason for row in self.rows if row.weights is None}

    def row(self, name: str) -> Row:
        """The row of the layer that is registered under `name`; KeyError where there is none."""
        for row in self.rows:
            if name == row.name or name in row.aliases:
                return row
        raise KeyError(f"no layer {name!r}: see plan.rows")

    def __str__(self) -> str:
        return plain(self._table(name_width=34))

    def __rich__(self) -> "Table":
        return self._table(name_width=120)

    def _table(self, name_width: int) -> "Table":
        from rich import box
        from rich.table import Table

        title = f"{len(self.binary)} of {len(self.rows)} layers binary, scale {self.scale}"
        if self.accumulator is not None:
            title += f", accumulator {self.accumulator}"
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("layer", no_wrap=True)
        table.add_column("type", no_wrap=True, max_width=14)
        table.add_column("weights, inputs", overflow="fold")
        for row in self.rows:
            table.add_row(shortened(row.name or "(the model)", name_width), row.kind, row.outcome)
        return table
