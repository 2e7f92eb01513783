"""Tables of a ledger: means over seeds, paired differences and costs, as text for Markdown and as CSV.

A layout says which axis has a line for each of its labels, and which have the columns; values are over seeds. Rows
whose label of `mode` is `float` stand below, to compare with.
"""

import csv
import io
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from proxconnect.training.study.grid import Labels, Layout
from proxconnect.training.study.ledger import Entry
from proxconnect.training.study.rows import described
from proxconnect.training.study.statistics import Difference, Spread, cells, setting_of

FLOAT = "float"
"""The label of `mode` whose rows are the float networks."""


@dataclass(frozen=True)
class Table:
    """A title, the heads of the columns, the lines, and what a reader must know."""

    title: str
    heads: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Quantity:
    """A measured number, what it is called, and how a mean over seeds is written."""

    figure: str
    title: str
    write: Callable[[Spread, int], str]
    """From the spread and how many decimals there is room for in percentages."""
    less: str | None = None
    """The figure that is subtracted from it."""

    @property
    def name(self) -> str:
        """What a CSV calls it."""
        return self.figure if self.less is None else f"{self.figure} - {self.less}"

    def cells(self, entries: Sequence[Entry]) -> dict[tuple[tuple[str, str], ...], list[float]]:
        """Its values by setting."""
        return cells(entries, self.figure, self.less)


def _percent(spread: Spread, decimals: int) -> str:
    return _with_sd(spread, 100.0, decimals)


def _with_sd(spread: Spread, factor: float, decimals: int) -> str:
    mean = f"{factor * spread.mean:.{decimals}f}"
    return mean if spread.sd is None else f"{mean}±{factor * spread.sd:.{decimals}f}"


REESTIMATED = Quantity("accuracy.reestimated", "Accuracy of the hard network in %, batch norm re-estimated", _percent)

AGAINST_FLOAT = replace(REESTIMATED, title="Points of the hard network less those of the float one of its seed")
"""Of what `less_float` returns."""

QUANTITIES = (
    REESTIMATED,
    Quantity("accuracy.hard", "Accuracy of the hard network in %, batch norm as trained", _percent),
    Quantity("accuracy.soft", "Accuracy of the soft network in %, as trained", _percent),
    Quantity(
        "accuracy.soft",
        "Points lost by hardening: soft less hard, batch norm re-estimated",
        _percent,
        less=REESTIMATED.figure,
    ),
    Quantity("seconds", "Seconds of training and validation", lambda spread, _: _with_sd(spread, 1.0, 0)),
    Quantity("packed_bytes", "Bytes of the packed file", lambda spread, _: f"{spread.mean:,.0f}"),
)
"""What has tables."""


def tables(entries: Sequence[Entry], layout: Layout, quantity: Quantity = REESTIMATED) -> list[Table]:
    """A table of means over seeds for each setting of the axes beside those of the layout that has values."""
    by_part: dict[tuple[tuple[str, str], ...], list[Entry]] = {}
    for entry in entries:
        by_part.setdefault(tuple(part_of(entry, layout).items()), []).append(entry)
    found = [_table(dict(part), members, layout, quantity) for part, members in by_part.items()]
    return [table for table in found if table is not None]


def less_float(entries: Sequence[Entry], layout: Layout) -> list[Entry]:
    """The binary rows, with their accuracy less that of the float row of the same part and seed, where there is one."""
    floats = {_place(entry, layout): entry.figure(REESTIMATED.figure) for entry in entries if is_float(entry)}
    found = []
    for entry in entries:
        before, value = floats.get(_place(entry, layout)), entry.figure(REESTIMATED.figure)
        if before is not None and value is not None and not is_float(entry):
            found.append(replace(entry, measured={"accuracy": {"reestimated": value - before}}))
    return found


def _place(entry: Entry, layout: Layout) -> tuple[tuple[str, str], ...]:
    return (*part_of(entry, layout).items(), ("seed", entry.labels.get("seed", "")))


def part_of(entry: Entry, layout: Layout) -> Labels:
    """The setting of the axes beside those of the layout: one table."""
    return setting_of(entry.labels, layout.lines, *layout.columns)


def is_float(entry: Entry) -> bool:
    """Whether the row trained the float network."""
    return entry.labels.get("mode") == FLOAT


def telling(entries: Sequence[Entry], layout: Layout) -> list[Entry]:
    """The entries without the labels that are the same for all, but for the axes of the layout and the seed."""
    kept = {"seed", layout.lines, *layout.columns}
    axes = {axis for entry in entries for axis in entry.labels}
    same = {axis for axis in axes - kept if len({entry.labels.get(axis) for entry in entries}) == 1}
    return [replace(e, labels={a: label for a, label in e.labels.items() if a not in same}) for e in entries]


def _table(part: Labels, entries: Sequence[Entry], layout: Layout, quantity: Quantity) -> Table | None:
    values = {key: Spread.of(found) for key, found in quantity.cells(entries).items()}
    if not values:
        return None
    floats = {key: spread for key, spread in values.items() if dict(key).get("mode") == FLOAT}
    binary = {key: spread for key, spread in values.items() if key not in floats}
    placed = {(dict(key).get(layout.lines, ""), column_of(dict(key), layout)): spread for key, spread in binary.items()}
    columns = list(dict.fromkeys(column for _, column in placed))
    lines = list(dict.fromkeys(line for line, _ in placed))
    decimals = 1 if len(columns) > 4 else 2  # six columns of two are wider than a terminal
    usual = statistics.mode(spread.count for spread in values.values())

    def written(spread: Spread | None) -> str:
        if spread is None:
            return "-"
        return quantity.write(spread, decimals) + (f" ({spread.count})" if spread.count != usual else "")

    return Table(
        title=": ".join(filter(None, (described(part), quantity.title))),
        heads=(layout.lines, *columns),
        lines=tuple((line, *(written(placed.get((line, column))) for column in columns)) for line in lines),
        notes=(
            *(f"{described(setting_of(dict(key), *part))}: {written(spread)}" for key, spread in floats.items()),
            f"Mean and standard deviation of {usual} seeds, of others in brackets." if usual > 1 else "One seed.",
        ),
    )


def column_of(labels: Labels, layout: Layout) -> str:
    """The labels of the axes of the columns in words."""
    return described({axis: labels[axis] for axis in layout.columns if axis in labels})


def difference_table(differences: Sequence[Difference]) -> Table:
    """A line for each difference, in points; those whose interval excludes 0 have a mark."""
    first = differences[0]
    lines = []
    for d in differences:
        interval = "" if d.interval is None else f"[{100 * d.interval[0]:+.2f}, {100 * d.interval[1]:+.2f}]"
        mark = "" if not d.excludes_zero else "+" if d.mean > 0 else "-"
        lines.append((described(d.setting), f"{100 * d.mean:+.2f}", interval, mark, str(d.count)))
    return Table(
        title=f"{first.one} against {first.other}, points of accuracy",
        heads=("setting", "mean", "95 % interval", "", "seeds"),
        lines=tuple(lines),
        notes=(_verdict(differences),),
    )


def _verdict(differences: Sequence[Difference]) -> str:
    """In how many settings which is better."""
    one, other = differences[0].one, differences[0].other
    better = sum(d.mean > 0 for d in differences)
    surely = sum(d.excludes_zero and d.mean > 0 for d in differences)
    surely_not = sum(d.excludes_zero and d.mean < 0 for d in differences)
    return (
        f"{one} is better in {better} of {len(differences)} settings; the interval excludes 0 for it in {surely} (+), "
        f"for {other} in {surely_not} (-). Each interval is for its own setting alone."
    )


def parts(table: Table, width: int) -> list[Table]:
    """The table in parts of at most `width` characters, each with the lines that say something in it.

    Each part has the title, the last one the notes. A column is as wide as its longest cell and two blanks.
    """
    first, *widths = (max(map(len, column)) + 2 for column in zip(table.heads, *table.lines, strict=True))
    groups: list[list[int]] = [[]]
    for index, wide in enumerate(widths, 1):
        if groups[-1] and first + sum(widths[i - 1] for i in groups[-1]) + wide > width:
            groups.append([])
        groups[-1].append(index)
    found = [
        Table(
            table.title,
            (table.heads[0], *(table.heads[i] for i in group)),
            tuple((line[0], *(line[i] for i in group)) for line in table.lines if {line[i] for i in group} != {"-"}),
        )
        for group in groups
    ]
    return [*found[:-1], replace(found[-1], notes=table.notes)]


def markdown(table: Table) -> str:
    """The table in Markdown, its title above and its notes below."""
    heads = [table.heads, tuple("---" if i == 0 else "---:" for i in range(len(table.heads)))]
    body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in (*heads, *table.lines)]
    return "\n".join([f"**{table.title}**", "", *(body if table.lines else []), "", *table.notes, ""])


def cells_csv(entries: Sequence[Entry]) -> str:
    """A line for each setting and measured number: count, mean, sd, unrounded; accuracies in [0, 1], seconds, bytes."""
    axes = list(dict.fromkeys(axis for entry in entries for axis in setting_of(entry.labels)))
    lines = [
        [*(dict(key).get(axis, "") for axis in axes), quantity.name, spread.count, spread.mean, spread.sd]
        for quantity in QUANTITIES
        for key, values in quantity.cells(entries).items()
        for spread in [Spread.of(values)]
    ]
    return _csv([*axes, "figure", "seeds", "mean", "sd"], lines)


def differences_csv(differences: Sequence[Difference]) -> str:
    """A line for each difference, unrounded, in [-1, 1]."""
    axes = list(dict.fromkeys(axis for d in differences for axis in d.setting))
    lines = [
        [
            d.axis,
            d.one,
            d.other,
            *(d.setting.get(axis, "") for axis in axes),
            d.count,
            d.mean,
            *(d.interval or ("", "")),
        ]
        for d in differences
    ]
    return _csv(["axis", "one", "other", *axes, "seeds", "mean", "low", "high"], lines)


def _csv(heads: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([heads, *lines])
    return text.getvalue()
