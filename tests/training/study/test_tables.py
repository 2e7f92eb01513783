"""Means, paired differences and their intervals against scipy, and what tables and pictures make of them."""

import csv
import io
import re
import statistics
from dataclasses import replace

import numpy
import pytest
from grids import write_grid
from pandas import DataFrame
from scipy import stats
from test_ledger import entry

from proxconnect._support.text import plain
from proxconnect.training.study import results
from proxconnect.training.study.grid import Grid, TableLayout
from proxconnect.training.study.ledger import Entry
from proxconnect.training.study.study import agreement
from proxconnect.training.study.tables import (
    AGAINST_FLOAT,
    QUANTITIES,
    REESTIMATED,
    Table,
    by_setting,
    difference_tables,
    differences,
    frame,
    less_float,
    markdown,
    mean_intervals,
    next_interval,
    settings,
    spreads,
    telling,
)

PAIRS = {"bnn+": 0.84, "bnn++": 0.85}


@pytest.fixture
def entries() -> list[Entry]:
    """Five seeds of two pairs in two modes, of which bnn+ in BWA lacks one, and three float ones."""
    random = numpy.random.default_rng(0)
    found = [entry(s, 0.86 + 0.004 * random.random(), pair="fp", mode="float", start="E2E") for s in range(3)]
    for mode in ("BW", "BWA"):
        for pair, level in PAIRS.items():
            seeds = range(1, 5) if (pair, mode) == ("bnn+", "BWA") else range(5)
            found += [entry(s, level + 0.01 * random.random(), pair=pair, mode=mode, start="E2E") for s in seeds]
    return found


def values(rows, **labels):
    """The accuracies of a frame, or of entries, by seed."""
    rows = rows if isinstance(rows, DataFrame) else frame(rows)
    for axis, label in labels.items():
        rows = rows[rows[axis] == label]
    return dict(zip(rows["seed"], rows[REESTIMATED], strict=True))


def test_paired_differences_are_those_of_scipy(entries):
    for found in differences(frame(entries), "pair", "bnn++", "bnn+").itertuples():
        one, other = (values(entries, pair=pair, mode=found.mode) for pair in ("bnn++", "bnn+"))
        seeds = sorted(one.keys() & other.keys())
        expected = stats.ttest_rel([one[s] for s in seeds], [other[s] for s in seeds])
        assert found.seeds == len(seeds) == (5 if found.mode == "BW" else 4)
        assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
        assert (found.low > 0 or found.high < 0) == (expected.pvalue < 0.05)


def test_one_seed_has_no_interval():
    rows = [entry(0, 0.8, pair="a"), entry(0, 0.7, pair="b"), entry(1, 0.7, pair="b")]
    (found,) = differences(frame(rows), "pair", "a", "b").to_dict("records")
    assert found["seeds"] == 1
    assert numpy.isnan([found["low"], found["high"]]).all()
    assert found["mean"] == pytest.approx(0.1)
    ((line,),) = (table.lines for table in difference_tables([differences(frame(rows), "pair", "a", "b")]))
    assert line == ("a against b", "+10.00", "", "", "1")


def test_intervals_hold_what_they_say():
    """Of normal values, 95 % of means, and of next values by the spread of three settings, lie within."""
    random = numpy.random.default_rng(0)
    means, nexts, trials = 0, 0, 2000
    samples = random.normal(size=(trials, 10))
    settings = samples[:, :9].reshape(3 * trials, 3)
    all_cells = mean_intervals(DataFrame({"seeds": 3, "mean": settings.mean(1), "sd": settings.std(1, ddof=1)}))
    for trial, following in enumerate(samples[:, 9]):
        cells = all_cells[3 * trial : 3 * trial + 3]
        first = cells.iloc[0]
        means += first["low"] <= 0 <= first["high"]
        low, high = next_interval(first, cells)
        nexts += low <= following <= high
    for share in (means / trials, nexts / trials):
        assert share == pytest.approx(0.95, abs=4 * (0.05 * 0.95 / trials) ** 0.5)


def test_a_table_has_mean_and_sd_of_each_cell(entries):
    (table,) = by_setting(frame(entries), TableLayout())
    assert table.heads == ("pair", "BW E2E", "BWA E2E")
    found = {line[0]: line[1:] for line in table.lines}
    assert found.keys() == PAIRS.keys()
    percent = [100 * v for v in values(entries, pair="bnn+", mode="BWA").values()]
    assert found["bnn+"][1] == f"{statistics.mean(percent):.2f}±{statistics.stdev(percent):.2f} (4)"
    floats = [100 * v for v in values(entries, pair="fp").values()]
    assert table.notes[0] == f"fp float E2E: {statistics.mean(floats):.2f}±{statistics.stdev(floats):.2f} (3)"
    assert max(map(len, plain(results.on_terminal(table)).splitlines())) <= 80
    lines = markdown(table).splitlines()
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines if line.startswith("|")}) == 1


def test_a_wide_table_is_shown_in_parts_that_fit_and_lose_no_cell(entries):
    modes = [f"mode {n}" for n in range(12)]
    wide = [entry(seed, 0.8, pair=pair, mode=mode, start="E2E") for mode in modes for pair in "ab" for seed in (0, 1)]
    (table,) = by_setting(frame([*wide, entry(0, 0.9, pair="alone", mode="mode 11", start="E2E")]), TableLayout())
    found = results.parts(table, 79)
    assert len(found) > 1
    assert all(max(map(len, plain(results.on_terminal(part)).splitlines())) <= 80 for part in found)
    assert [head for part in found for head in part.heads[1:]] == list(table.heads[1:])
    assert [[line[0] for line in part.lines] for part in found] == [["a", "b"]] * (len(found) - 1) + [
        ["a", "b", "alone"]
    ]
    assert [part.notes for part in found] == [()] * (len(found) - 1) + [table.notes]
    assert results.parts(by_setting(frame(entries), TableLayout())[0], 79) == by_setting(frame(entries), TableLayout())


def test_what_hardening_loses_is_measured_row_by_row():
    rows = [entry(seed, hard, mode="BW", pair="a") for seed, hard in enumerate((0.80, 0.84))]
    rows = [replace(e, measured={"accuracy": e.measured["accuracy"] | {"soft": soft}})
            for e, soft in zip(rows, (0.82, 0.83), strict=True)]  # fmt: skip
    (quantity,) = [q for q in QUANTITIES if q.less]
    (table,) = by_setting(frame([*rows, entry(2, 0.8, mode="BW", pair="a")]), TableLayout(), quantity)
    assert table.lines == (("a", "0.50±2.12"),)


def test_binary_rows_are_held_against_the_float_one_of_their_seed(entries):
    floats = values(entries, pair="fp")
    found = less_float(frame(entries), TableLayout())
    assert set(found["seed"]) == set(floats)
    for mode, pair in (("BW", "bnn++"), ("BWA", "bnn+")):
        expected = {s: v - floats[s] for s, v in values(entries, pair=pair, mode=mode).items() if s in floats}
        assert values(found, pair=pair, mode=mode) == pytest.approx(expected)
    (table,) = by_setting(found, TableLayout(), AGAINST_FLOAT)
    assert all(cell.startswith("-") for line in table.lines for cell in line[1:])


def test_other_axes_have_tables_of_their_own():
    rows = [entry(0, 0.8, model=model, mode="BW", pair="bc") for model in ("resnet", "vit")]
    assert [table.title.partition(":")[0] for table in by_setting(frame(rows), TableLayout())] == ["resnet", "vit"]
    (table,) = by_setting(frame(rows), TableLayout("model", ("pair",)))
    assert (table.heads, [line[0] for line in table.lines]) == (("model", "bc"), ["resnet", "vit"])


def test_a_float_network_without_labels_in_the_layout_has_a_note_without_a_name():
    rows = [entry(0, 0.9, mode="float", pair=""), entry(0, 0.8, mode="BW", pair="bc")]
    alone, binary = by_setting(frame(rows), TableLayout("pair", ("start",)))
    assert (alone.title.partition(":")[0], alone.lines, alone.notes) == ("float", (), ("90.00", "One seed."))
    assert binary.lines == (("bc", "80.00"),)


def test_labels_that_all_rows_have_are_not_said():
    rows = [entry(0, 0.8, model=model, mode="BW", pictures="held out") for model in ("resnet", "vit")]
    assert [labels.keys() for labels in settings(telling(frame(rows), TableLayout()))] == [
        {"pair", "mode", "model"}
    ] * 2


def test_csv_is_unrounded(entries):
    lines = list(csv.DictReader(io.StringIO(results._csv(results.cells(frame(entries))))))
    (line,) = [x for x in lines if (x["pair"], x["mode"], x["figure"]) == ("bnn++", "BW", REESTIMATED)]
    found = list(values(entries, pair="bnn++", mode="BW").values())
    assert float(line["mean"]) == statistics.fmean(found)
    assert float(line["sd"]) == statistics.stdev(found)
    assert line["seeds"] == "5"


def test_the_table_of_differences_counts_what_is_sure(entries):
    found = differences(frame(entries), "pair", "bnn++", "bnn+")
    (table,) = difference_tables([found])
    assert [line[3] == "+" for line in table.lines] == (found["low"] > 0).tolist()
    assert table.notes[0].startswith("bnn++ is better in 2 of 2 settings; the interval excludes 0 for it in ")


def test_comparisons_in_one_setting_share_a_table(entries):
    rows = frame([e for e in entries if e.labels["mode"] == "BW"])
    couples = ("bnn++", "bnn+"), ("bnn+", "bnn++")
    (table,) = difference_tables([differences(rows, "pair", *couple) for couple in couples])
    assert [line[0] for line in table.lines] == ["bnn++ against bnn+", "bnn+ against bnn++"]


def test_long_tables_of_comparisons_are_printed_without_what_is_open():
    lines = [(f"setting {i}", "+1.00", "[-1, 3]", "+" if i < 2 else "", "3") for i in range(results.MOST_LINES + 1)]
    table = Table("a against b", ("setting", "mean", "95 % interval", "", "seeds"), tuple(lines), ("verdict",))
    shown = results.shortened(table)
    assert [line[0] for line in shown.lines] == ["setting 0", "setting 1"]
    assert shown.notes == ("verdict", "The intervals of 5 more hold 0: see tables.md.")
    assert results.shortened(Table(table.title, table.heads, table.lines[:-1])).lines == table.lines[:-1]


def test_pictures_show_means_and_intervals(entries):
    (figure,) = results.draw_accuracies(frame(entries), TableLayout()).values()
    first = figure.axes[0]
    found = [100 * v for v in values(entries, pair="bnn+", mode="BW").values()]
    bars = {round(line.get_xdata()[0], 9) for line in first.lines if line.get_marker() == "o"}
    assert round(statistics.fmean(found), 9) in bars
    compared = differences(frame(entries), "pair", "bnn++", "bnn+")
    forest = results.draw_differences([compared]).axes[0]
    drawn = [tuple(line.get_xdata()) for line in forest.lines if len(set(line.get_xdata())) == 2]
    assert drawn == [pytest.approx((100 * low, 100 * high)) for low, high in compared[["low", "high"]].to_numpy()]
    assert list(results.draw_curves(frame(entries), TableLayout())) == ["BW E2E", "BWA E2E"]


def test_a_report_is_written_beside_the_ledger(entries, tmp_path):
    grid = Grid.read(write_grid(tmp_path))
    paths = results.write(entries, grid, tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in paths} == {
        "tables.md", "cells.csv", "differences.csv", "figures/accuracies.png", "figures/differences.png",
        "figures/curves-BW-E2E.png", "figures/curves-BWA-E2E.png",
    }  # fmt: skip
    assert "bnn++ against bnn+" in (tmp_path / "tables.md").read_text()


def test_differences_along_several_axes_are_in_one_file(entries, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "_draw", lambda *_: [])
    compare = {"pair": [["bnn++", "bnn+"]], "mode": [["BW", "float"]]}
    rows = [*entries, *(entry(seed, 0.8, pair="fp", mode="BW", start="E2E") for seed in range(2))]
    results.write(rows, Grid.read(write_grid(tmp_path, compare=compare)), tmp_path)
    head, *lines = (tmp_path / "differences.csv").read_text().splitlines()
    assert head == "axis,one,other,mode,start,pair,seeds,mean,low,high"
    assert [line.split(",")[:7] for line in lines] == [
        ["pair", "bnn++", "bnn+", "BW", "E2E", "", "5"], ["pair", "bnn++", "bnn+", "BWA", "E2E", "", "4"],
        ["mode", "BW", "float", "", "E2E", "fp", "2"],
    ]  # fmt: skip


def test_a_row_agrees_to_the_bit_or_within_the_spread_of_its_seeds(entries):
    recorded = next(e for e in entries if e.labels["pair"] == "bnn+")
    labels = {name: label for name, label in recorded.labels.items() if name != "seed"}
    cells = spreads(frame(entries), REESTIMATED)
    own = cells[(cells["pair"] == labels["pair"]) & (cells["mode"] == labels["mode"])].iloc[0]
    low, high = next_interval(own, cells)

    def again(accuracy):
        return agreement(recorded, entry(int(recorded.labels["seed"]), accuracy, **labels), entries)

    assert again(recorded.figure(REESTIMATED))[1] == "the same to the bit"
    assert again((low + high) / 2)[0]
    assert not again(high + 1e-6)[0]
    assert "outside" in again(low - 1e-6)[1]
    alone = [recorded]
    assert not agreement(recorded, entry(0, 0.5, **labels), alone)[0]
