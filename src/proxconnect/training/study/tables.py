"""Results of a ledger: means over seeds and paired differences as data frames, and tables of them as text."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pandas import DataFrame, Series

from proxconnect._support import extras
from proxconnect.training.study.grid import FIGURES, OTHER_COLUMNS, TableLayout
from proxconnect.training.study.ledger import Entry
from proxconnect.training.study.rows import Labels, described

REESTIMATED = FIGURES[0]
"""The accuracy that is compared: that of the hard network, batch norm re-estimated."""

FLOAT = "float"
"""The label of `mode` whose rows are the float networks."""


def frame(entries: Sequence[Entry], layout: TableLayout | None = None) -> DataFrame:
    """Return a data frame with one line for each entry.

    Its columns are the axes (labels, "" for none; "seed" and the axes of `layout` among them), the `FIGURES` (NaN if
    not measured), and "curve" (a list with a dict of numbers for each epoch). If `layout` is None, it
    is `TableLayout()`.
    """
    layout = layout or TableLayout()
    needed = ("seed", layout.lines, *layout.columns)
    names = dict.fromkeys([*(axis for entry in entries for axis in entry.labels), *needed])
    labels = DataFrame([{name: entry.labels.get(name, "") for name in names} for entry in entries], columns=[*names])
    numbers = DataFrame({name: [entry.figure(name) for entry in entries] for name in FIGURES}, dtype=float)
    return labels.join(numbers).assign(curve=[entry.measured.get("curve") or [] for entry in entries])


def axes(rows: DataFrame, *apart: str) -> list[str]:
    """Return the names of the columns of `rows` that hold labels, without those in `apart`."""
    return [name for name in rows.columns if name not in OTHER_COLUMNS and name not in apart]


def settings(rows: DataFrame, *apart: str) -> list[Labels]:
    """Return the labels by axis of each line of `rows`, without empty ones, the seed and the axes in `apart`."""
    names = axes(rows, "seed", *apart)
    return [{name: label for name, label in zip(names, line, strict=True) if label} for line in rows[names].to_numpy()]


def spreads(rows: DataFrame, figure: str, less: str | None = None) -> DataFrame:
    """Return the mean over seeds of the column `figure`, or of `figure` minus the column `less`, for each setting.

    A setting is a combination of labels of all axes except the seed. Its line has these labels and the columns "seeds"
    (their number), "mean" and "sd" (NaN for one seed). Lines in which the averaged value is NaN do not count.
    """
    if less is not None:
        rows = rows.assign(**{figure: rows[figure] - rows[less]})
    setting = axes(rows, "seed")
    groups = rows.dropna(subset=figure).groupby(setting or (lambda _: ""), sort=False)[figure]
    found = groups.agg(
        seeds="count", mean=statistics.fmean, sd=lambda v: statistics.stdev(v) if len(v) > 1 else math.nan
    )
    return found.reset_index()[[*setting, "seeds", "mean", "sd"]]


def mean_intervals(cells: DataFrame) -> DataFrame:
    """Return `cells`, from `spreads`, with "low" and "high": Student's 95 % interval of the mean, NaN for one seed."""
    half = quantile(cells["seeds"] - 1) * cells["sd"] / cells["seeds"] ** 0.5
    return cells.assign(low=cells["mean"] - half, high=cells["mean"] + half)


def next_interval(cell: "Series[float]", cells: DataFrame) -> tuple[float, float]:
    """Return (low, high), the 95 % prediction interval of one more seed of a setting: mean ± t·sd·√(1 + 1/n).

    `cell` is the setting's line of `spreads`, with n seeds. sd is pooled over the lines `cells`, and t is Student's for
    its degrees of freedom. Both ends are NaN if none of `cells` has two seeds.
    """
    freedom = (cells["seeds"] - 1).sum()
    pooled = (((cells["seeds"] - 1) * cells["sd"] ** 2).sum() / freedom) ** 0.5 if freedom else math.nan
    half = quantile(freedom) * pooled * math.sqrt(1 + 1 / cell["seeds"])
    return cell["mean"] - half, cell["mean"] + half


def differences(rows: DataFrame, axis: str, one: str, other: str) -> DataFrame:
    """Return by how much the re-estimated accuracy is higher with the label `one` of `axis` than with `other`.

    The lines and columns are those of `mean_intervals`, of the differences between rows with the same seed and the same
    labels on the other axes. The columns "axis", "one" and "other" hold the arguments.
    """
    rows = rows.dropna(subset=REESTIMATED)
    places, side = axes(rows, axis), rows[axis]
    paired = rows.loc[side.isin((one, other)), places].drop_duplicates()
    for label in (one, other):
        paired = paired.merge(rows.loc[side == label, [*places, REESTIMATED]], on=places, suffixes=("", " less"))
    paired[REESTIMATED] -= paired.pop(f"{REESTIMATED} less")
    found = mean_intervals(spreads(paired, REESTIMATED))
    return DataFrame({"axis": axis, "one": one, "other": other}, index=found.index).join(found)


def quantile(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t with `freedom` degrees of freedom (or a column of them); NaN for 0."""
    result: float = extras.require("scipy.stats", "train").t.ppf(0.975, freedom)
    return result


@dataclass(frozen=True)
class Table:
    """A table as text, with notes to print below it."""

    title: str
    heads: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Quantity:
    """A measured number, `figure` or `figure` minus `less`, which has tables under `title`.

    `write(mean, sd, decimals)` returns the text of a cell, with this number of decimals if it is a percentage.
    """

    figure: str
    title: str
    write: Callable[[float, float, int], str]
    less: str | None = None


def with_sd(mean: float, sd: float, decimals: int) -> str:
    """Return mean and sd as text with `decimals` decimals, as "84.25±0.31"; the mean alone if the sd is NaN."""
    return f"{mean:.{decimals}f}" + ("" if math.isnan(sd) else f"±{sd:.{decimals}f}")


def percent(mean: float, sd: float, decimals: int) -> str:
    """Return mean and sd of shares, or of their differences, as `with_sd` does, times 100 and without the sign %."""
    return with_sd(100 * mean, 100 * sd, decimals)


ACCURACY = Quantity(REESTIMATED, "Accuracy of the hard network in %, batch norm re-estimated", percent)

AGAINST_FLOAT = replace(ACCURACY, title="Points of the hard network less those of the float one of its seed")
"""The quantity in the frame that `less_float` returns."""

QUANTITIES = (
    ACCURACY,
    Quantity("accuracy.hard", "Accuracy of the hard network in %, batch norm as trained", percent),
    Quantity("accuracy.soft", "Accuracy of the soft network in %, as trained", percent),
    Quantity(
        "accuracy.soft", "Points lost by hardening: soft less hard, batch norm re-estimated", percent, REESTIMATED
    ),
    Quantity("loss.hard", "Loss of the hard network", lambda mean, sd, _: with_sd(mean, sd, 3)),
    Quantity("seconds", "Seconds of training and validation", lambda mean, sd, _: with_sd(mean, sd, 0)),
    Quantity("packed_bytes", "Bytes of the packed file", lambda mean, *_: f"{mean:,.0f}"),
)
"""The quantities that have tables."""


def is_float(rows: DataFrame) -> Series:
    """Return for each line of `rows` whether its column "mode" holds "float"; all are False without that column."""
    return rows["mode"] == FLOAT if "mode" in rows else Series(False, rows.index)


def telling(rows: DataFrame, layout: TableLayout) -> DataFrame:
    """Return `rows` without the axes on which all lines have the same label, except those of `layout` and the seed."""
    others = axes(rows, "seed", layout.lines, *layout.columns)
    return rows.drop(columns=[axis for axis in others if rows[axis].nunique() == 1])


def less_float(rows: DataFrame, layout: TableLayout) -> DataFrame:
    """Return the lines of binary networks, with the accuracy of a float network subtracted from the re-estimated one.

    The float network has the same seed and labels outside `layout`. Lines without such a network are left out.
    """
    place, floats = axes(rows, layout.lines, *layout.columns), is_float(rows)
    below = rows[floats].drop_duplicates(place, keep="last")[[*place, REESTIMATED]]
    found = rows[~floats].merge(below, on=place, suffixes=("", " less"))
    found[REESTIMATED] -= found.pop(f"{REESTIMATED} less")
    return found


def by_setting(rows: DataFrame, layout: TableLayout, quantity: Quantity = ACCURACY) -> list[Table]:
    """Return tables of means over seeds of `quantity`.

    There is one for each combination of labels of the axes outside `layout`, except the seed. Float networks are in the
    notes of the tables, not in their lines. Rows without the quantity do not count.
    """
    cells = spreads(rows, quantity.figure, quantity.less)
    parts = axes(cells, layout.lines, *layout.columns) or (lambda _: "")
    return [_table(members, layout, quantity) for _, members in cells.groupby(parts, sort=False)]


def _table(cells: DataFrame, layout: TableLayout, quantity: Quantity) -> Table:
    binary, usual = cells[~is_float(cells)], statistics.mode(cells["seeds"])
    places = [(labels.get(layout.lines, ""), column_of(labels, layout)) for labels in settings(binary)]
    lines, columns = ([*dict.fromkeys(side)] for side in zip(*places, strict=True)) if places else ([], [])
    decimals = 1 if len(columns) > 4 else 2  # six columns of two are wider than a terminal

    def written(of: DataFrame) -> list[str]:
        return [quantity.write(mean, sd, decimals) + (f" ({seeds})" if seeds != usual else "")
                for seeds, mean, sd in zip(of["seeds"], of["mean"], of["sd"], strict=True)]  # fmt: skip

    placed = dict(zip(places, written(binary), strict=True))
    floats, part = cells[is_float(cells)], settings(cells, layout.lines, *layout.columns)[0]
    return Table(
        title=": ".join(filter(None, (described(part), quantity.title))),
        heads=(layout.lines, *columns),
        lines=tuple((line, *(placed.get((line, column), "-") for column in columns)) for line in lines),
        notes=(
            *(
                ": ".join(filter(None, (described(labels), text)))
                for labels, text in zip(settings(floats, *part), written(floats), strict=True)
            ),
            f"Mean and standard deviation of {usual} seeds, of others in brackets." if usual > 1 else "One seed.",
        ),
    )


def column_of(labels: Labels, layout: TableLayout) -> str:
    """Return the head of the column of `layout` in which a row with these labels stands, as "BW E2E"."""
    return described({axis: labels[axis] for axis in layout.columns if axis in labels})


def difference_tables(compared: Sequence[DataFrame]) -> list[Table]:
    """Return the `difference_table` of each comparison; each of `compared` is by `differences`.

    If all are in one setting, one table has a line for each comparison instead.
    """
    places = {described(setting) for found in compared for setting in settings(found)}
    if len(places) != 1:
        return [difference_table(found) for found in compared]
    lines = [(_couple(found), *cells) for found in compared for cells in _difference_cells(found)]
    title = ": ".join(["Differences in points of accuracy", *filter(None, places)])
    return [Table(title, ("one against another", *_DIFFERENCE_HEADS), tuple(lines))]


_DIFFERENCE_HEADS = ("mean", "95 % interval", "", "seeds")


def difference_table(found: DataFrame) -> Table:
    """Return a table in points of one comparison, `found` by `differences`, with a line for each setting."""
    lines = [
        (described(setting), *cells) for setting, cells in zip(settings(found), _difference_cells(found), strict=True)
    ]
    one, other = found["one"].iloc[0], found["other"].iloc[0]
    better, surely, surely_not = ((found["mean"] > 0).sum(), (found["low"] > 0).sum(), (found["high"] < 0).sum())
    verdict = (
        f"{one} is better in {better} of {len(found)} settings; the interval excludes 0 for it in {surely} (+), "
        f"for {other} in {surely_not} (-). Each interval is for its own setting alone."
    )
    return Table(f"{_couple(found)}, points of accuracy", ("setting", *_DIFFERENCE_HEADS), tuple(lines), (verdict,))


def _couple(found: DataFrame) -> str:
    return f"{found['one'].iloc[0]} against {found['other'].iloc[0]}"


def _difference_cells(found: DataFrame) -> list[tuple[str, ...]]:
    """Return the cells of each setting: mean, interval, + or - if that excludes 0, and the number of seeds."""
    cells: list[tuple[str, ...]] = []
    numbers = (100 * found[name] for name in ("mean", "low", "high"))
    for mean, low, high, seeds in zip(*numbers, found["seeds"], strict=True):
        interval = "" if math.isnan(low) else f"[{low:+.2f}, {high:+.2f}]"
        cells.append((f"{mean:+.2f}", interval, "+" if low > 0 else "-" if high < 0 else "", str(seeds)))
    return cells


def markdown(table: Table) -> str:
    """Return the table as Markdown text, with its title in bold above and its notes below."""
    heads = [table.heads, tuple("---" if i == 0 else "---:" for i in range(len(table.heads)))]
    body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in (*heads, *table.lines)]
    return "\n".join([f"**{table.title}**", "", *(body if table.lines else []), "", *table.notes, ""])
