"""The plan of a conversion, one row per layer."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxconnect._support.text import plain, shortened
from proxconnect.layers import Accumulator

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Row:
    """The plan for one layer: its name, its pairs or why it stays float."""

    name: str
    """The qualified name; "" for the model itself."""
    kind: str
    """The name of the float class."""
    weights: str | None
    """The name of the pair of the weights; None if they stay float."""
    activations: str | None
    """The name of the pair of the inputs; None if they stay float."""
    reason: str
    """The reason why the layer or its input stays float, or a remark; may be empty."""
    aliases: tuple[str, ...] = ()
    """Further qualified names under which the same module is registered."""

    @property
    def outcome(self) -> str:
        """The decision as text: "WEIGHTS, INPUTS" (pairs or "float") or "float", then any reason and aliases."""
        pairs = "float" if self.weights is None else f"{self.weights}, {self.activations or 'float'}"
        notes = [self.reason] if self.reason else []
        return ": ".join([pairs, "; ".join([*notes, *(f"also {alias}" for alias in self.aliases)])]).removesuffix(": ")


@dataclass(frozen=True)
class Plan:
    """The plan that `binarize` follows, as plain data; it shows itself as a table."""

    rows: tuple[Row, ...]
    """One row per module with a weight of two dimensions or more, except norms, in order of registration."""
    scale: str | None
    """The `scale` of the weights."""
    accumulator: Accumulator | None
    """The accumulator of layers with binary inputs; None for no limit."""
    padding_value: int
    """The value that convolutions with binary inputs pad with."""
    group_size: int | None = None
    """The number of inputs of a channel that share a scale; None if all do."""

    @property
    def binary(self) -> tuple[str, ...]:
        """The qualified names of the layers with binary weights, in order of registration."""
        return tuple(row.name for row in self.rows if row.weights is not None)

    @property
    def floats(self) -> dict[str, str]:
        """The reasons why the layers with float weights stay float, by qualified name."""
        return {row.name: row.reason for row in self.rows if row.weights is None}

    def row(self, name: str) -> Row:
        """Return the row of the layer with the qualified name or alias `name`; KeyError if there is none."""
        for row in self.rows:
            if name == row.name or name in row.aliases:
                return row
        raise KeyError(f"no layer {name!r}: see plan.rows")

    def __str__(self) -> str:
        return plain(self._table(name_width=34))

    __repr__ = __str__

    def __rich__(self) -> "Table":
        return self._table(name_width=120)

    def _table(self, name_width: int) -> "Table":
        from rich import box
        from rich.table import Table

        title = f"{len(self.binary)} of {len(self.rows)} layers binary, scale {self.scale}"
        if self.group_size is not None:
            title += f", for every {self.group_size} inputs"
        if self.accumulator is not None:
            title += f", accumulator {self.accumulator}"
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("layer", no_wrap=True)
        table.add_column("type", no_wrap=True, max_width=14)
        table.add_column("weights, inputs", overflow="fold")
        for row in self.rows:
            table.add_row(shortened(row.name or "(the model)", name_width), row.kind, row.outcome)
        return table
