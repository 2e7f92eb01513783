"""A summary as a table with totals: text for 80 columns, or a renderable of rich."""

from textwrap import wrap
from typing import TYPE_CHECKING

from proxconnect._support.text import shortened
from proxconnect.kernels.library import ON_TORCH

if TYPE_CHECKING:
    from rich.console import Group

    from proxconnect.inspection.numbers import LayerSummary, Summary

_WIDTH = 80
_TYPE_WIDTH = 12
_NAME_WIDTH = 12
_LABEL_WIDTH = 15
_HEADERS = (("", "output"), ("weight/in", "bits"), ("float", "bytes"), ("packed", "bytes"), ("multiply-", "adds"))


def as_text(summary: "Summary") -> str:
    """Return the table and the totals in 80 columns; shapes are left out or names shortened to fit."""
    headers, cells = _columns(summary)
    widths = [max(map(len, column)) for column in zip(*cells, *headers, strict=True)]
    if summary.uncalled is not None and _WIDTH - _TYPE_WIDTH - sum(widths) - len(widths) - 1 < _NAME_WIDTH:
        headers, cells, widths = [h[1:] for h in headers], [line[1:] for line in cells], widths[1:]
    names = [row.name or "(the model)" for row in summary.rows]
    room = max(_NAME_WIDTH, _WIDTH - _TYPE_WIDTH - sum(widths) - len(widths) - 1)
    name_width = min(room, max(map(len, ["layer", *names])))

    def line(name: str, kind: str, values: tuple[str, ...]) -> str:
        kind = kind if len(kind) <= _TYPE_WIDTH else f"{kind[: _TYPE_WIDTH - 1]}…"
        left = f"{shortened(name, name_width):{name_width}} {kind:{_TYPE_WIDTH}}"
        return " ".join([left, *(f"{value:>{w}}" for value, w in zip(values, widths, strict=True))]).rstrip()

    lines = [line("", "", headers[0]), line("layer", "type", headers[1])]
    lines.append("─" * max(map(len, lines)))
    lines += [line(name, row.kind, values) for name, row, values in zip(names, summary.rows, cells, strict=True)]
    for total in ["", *_totals(summary)]:
        lines += wrap(total, _WIDTH, subsequent_indent=" " * _LABEL_WIDTH) or [""]
    return "\n".join(lines)


def as_rich(summary: "Summary") -> "Group":
    """Return the table and the totals as a renderable, with whole names."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    headers, cells = _columns(summary)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("layer", "type"):
        table.add_column(name, no_wrap=True)
    for first, second in zip(*headers, strict=True):
        table.add_column(f"{first}\n{second}", justify="right", no_wrap=True)
    for row, values in zip(summary.rows, cells, strict=True):
        table.add_row(row.name or "(the model)", row.kind, *values)
    return Group(table, Text("\n".join(_totals(summary))))


def short(amount: int | None) -> str:
    """Return a count as text in powers of 1000: 12345 as "12.3k", at most six characters below 1000T. None gives ""."""
    if amount is None:
        return ""
    value, units = float(amount), ["", "k", "M", "G", "T"]
    while value >= 999.95 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.1f}{units[0]}" if units[0] else f"{value:.0f}"


def _columns(summary: "Summary") -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Return the two lines of headers and the cells of each row, without the layer's name and type."""
    shown = slice(1, 4) if summary.uncalled is None else slice(None)
    headers: list[tuple[str, ...]] = [*zip(*_HEADERS, strict=True)]
    return [line[shown] for line in headers], [_cells(row)[shown] for row in summary.rows]


def _cells(row: "LayerSummary") -> tuple[str, ...]:
    shape = "" if row.output_shape is None else "×".join(map(str, row.output_shape))
    bits = "" if row.weight_bits is None else f"{row.weight_bits}/{row.input_bits or '-'}"
    macs = (row.binary_macs or 0) + (row.mixed_macs or 0) + (row.float_macs or 0)
    return shape, bits, short(row.float_bytes), short(row.packed_bytes), short(macs) if macs else ""


def _totals(summary: "Summary") -> list[str]:
    binary = [row for row in summary.rows if row.weight_bits == 1]
    sizes = {"binary layers": binary} if binary else {}
    totals = {
        "parameters": f"{summary.parameters:,}, {summary.binary_parameters:,} of them binary",
        **{label: _sizes(rows) for label, rows in (sizes | {"all tensors": [*summary.rows]}).items()},
    }
    if summary.uncalled is not None:
        totals["multiply-adds"] = _multiply_adds(summary)
    if summary.kernels is not None:
        totals["kernels"] = f"NOT BUILT: {ON_TORCH}" if summary.kernels == "not built" else summary.kernels
    if summary.uncalled:
        totals["never called"] = f"{', '.join(summary.uncalled)}; their inputs stay float"
    if summary.one_signed:
        names = ", ".join(summary.one_signed)
        totals["useless inputs"] = f"those of {names} have one sign only, as after a ReLU, which 1 bit cannot use"
    return [f"{label:{_LABEL_WIDTH}}{text}" for label, text in totals.items()]


def _multiply_adds(summary: "Summary") -> str:
    """Say how many multiply-adds there are of each kind; kinds without any are left out."""
    multiply = (row.binary_macs or row.mixed_macs for row in summary.rows if row.weight_bits == 1)
    is_float = all(multiply) and all(row.weight_bits != 8 for row in summary.rows)  # else others use binary weights
    counts = {
        "1-bit weights × 1-bit inputs": summary.binary_macs,
        "1-bit weights × float inputs": summary.mixed_macs,
        "float × float" if is_float else "other factors": summary.float_macs,
    }
    return ", ".join(f"{count:,} of {factors}" for factors, count in counts.items() if count) or "none"


def _sizes(rows: "list[LayerSummary]") -> str:
    floats, packed = sum(row.float_bytes for row in rows), sum(row.packed_bytes for row in rows)
    return f"{floats:,} bytes float, {packed:,} packed: {floats / packed if packed else 1.0:.1f} times smaller"
