"""Means, paired differences and their intervals against scipy, and what tables and pictures make of them."""

import csv
import io
import re
import statistics
from dataclasses import replace

import numpy
import pytest
from grids import write_grid
from scipy import stats
from test_ledger import entry

from proxconnect._support.text import plain
from proxconnect.training.study import pictures, report
from proxconnect.training.study.forecast import Share, remaining
from proxconnect.training.study.grid import Grid, Layout
from proxconnect.training.study.ledger import Entry
from proxconnect.training.study.statistics import Pooled, Spread, cells, differences, mean_interval, next_interval
from proxconnect.training.study.tables import (
    AGAINST_FLOAT,
    QUANTITIES,
    cells_csv,
    difference_table,
    less_float,
    markdown,
    parts,
    tables,
    telling,
)
from proxconnect.training.study.verification import verdict

FIGURE = "accuracy.reestimated"
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


def values(entries, **labels):
    chosen = [e for e in entries if labels.items() <= e.labels.items()]
    return {e.labels["seed"]: e.figure(FIGURE) for e in chosen}


def test_paired_differences_are_those_of_scipy(entries):
    for found in differences(entries, "pair", "bnn++", "bnn+", FIGURE):
        one, other = (values(entries, pair=pair, mode=found.setting["mode"]) for pair in ("bnn++", "bnn+"))
        seeds = sorted(one.keys() & other.keys())
        expected = stats.ttest_rel([one[s] for s in seeds], [other[s] for s in seeds])
        assert found.count == len(seeds) == (5 if found.setting["mode"] == "BW" else 4)
        assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
        assert found.excludes_zero == (expected.pvalue < 0.05)


def test_one_seed_has_no_interval():
    rows = [entry(0, 0.8, pair="a"), entry(0, 0.7, pair="b"), entry(1, 0.7, pair="b")]
    (found,) = differences(rows, "pair", "a", "b", FIGURE)
    assert (found.count, found.interval, found.excludes_zero) == (1, None, False)
    assert found.mean == pytest.approx(0.1)


def test_intervals_hold_what_they_say():
    """Of normal values, 95 % of means, and of next values by the spread of three settings, lie within."""
    random = numpy.random.default_rng(0)
    means, nexts, trials = 0, 0, 4000
    for sample in random.normal(size=(trials, 10)):
        spreads = [Spread.of(list(setting)) for setting in sample[:9].reshape(3, 3)]
        low, high = mean_interval(spreads[0])
        means += low <= 0 <= high
        low, high = next_interval(spreads[0], Pooled.of(spreads))
        nexts += low <= sample[9] <= high
    for share in (means / trials, nexts / trials):
        assert share == pytest.approx(0.95, abs=4 * (0.05 * 0.95 / trials) ** 0.5)


def test_a_table_has_mean_and_sd_of_each_cell(entries):
    (table,) = tables(entries, Layout())
    assert table.heads == ("pair", "BW E2E", "BWA E2E")
    found = {line[0]: line[1:] for line in table.lines}
    assert found.keys() == PAIRS.keys()
    percent = [100 * v for v in values(entries, pair="bnn+", mode="BWA").values()]
    assert found["bnn+"][1] == f"{statistics.mean(percent):.2f}±{statistics.stdev(percent):.2f} (4)"
    floats = [100 * v for v in values(entries, pair="fp").values()]
    assert table.notes[0] == f"fp float E2E: {statistics.mean(floats):.2f}±{statistics.stdev(floats):.2f} (3)"
    assert max(map(len, plain(report.on_terminal(table)).splitlines())) <= 80
    lines = markdown(table).splitlines()
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines if line.startswith("|")}) == 1


def test_a_wide_table_is_shown_in_parts_that_fit_and_lose_no_cell(entries):
    modes = [f"mode {n}" for n in range(12)]
    wide = [entry(seed, 0.8, pair=pair, mode=mode, start="E2E") for mode in modes for pair in "ab" for seed in (0, 1)]
    (table,) = tables([*wide, entry(0, 0.9, pair="alone", mode="mode 11", start="E2E")], Layout())
    found = parts(table, 79)
    assert len(found) > 1
    assert all(max(map(len, plain(report.on_terminal(part)).splitlines())) <= 80 for part in found)
    assert [head for part in found for head in part.heads[1:]] == list(table.heads[1:])
    assert [[line[0] for line in part.lines] for part in found] == [["a", "b"]] * (len(found) - 1) + [
        ["a", "b", "alone"]
    ]
    assert [part.notes for part in found] == [()] * (len(found) - 1) + [table.notes]
    assert parts(tables(entries, Layout())[0], 79) == tables(entries, Layout())


def test_what_hardening_loses_is_measured_row_by_row():
    rows = [entry(seed, hard, mode="BW", pair="a") for seed, hard in enumerate((0.80, 0.84))]
    rows = [replace(e, measured={"accuracy": e.measured["accuracy"] | {"soft": soft}})
            for e, soft in zip(rows, (0.82, 0.83), strict=True)]  # fmt: skip
    (quantity,) = [q for q in QUANTITIES if q.less]
    (table,) = tables([*rows, entry(2, 0.8, mode="BW", pair="a")], Layout(), quantity)
    assert table.lines == (("a", "0.50±2.12"),)


def test_binary_rows_are_held_against_the_float_one_of_their_seed(entries):
    floats = values(entries, pair="fp")
    found = less_float(entries, Layout())
    assert {e.labels["seed"] for e in found} == set(floats)
    for mode, pair in (("BW", "bnn++"), ("BWA", "bnn+")):
        expected = {s: v - floats[s] for s, v in values(entries, pair=pair, mode=mode).items() if s in floats}
        assert values(found, pair=pair, mode=mode) == pytest.approx(expected)
    (table,) = tables(found, Layout(), AGAINST_FLOAT)
    assert all(cell.startswith("-") for line in table.lines for cell in line[1:])


def test_other_axes_have_tables_of_their_own():
    rows = [entry(0, 0.8, model=model, mode="BW", pair="bc") for model in ("resnet", "vit")]
    assert [table.title.partition(":")[0] for table in tables(rows, Layout())] == ["resnet", "vit"]
    (table,) = tables(rows, Layout("model", ("pair",)))
    assert (table.heads, [line[0] for line in table.lines]) == (("model", "bc"), ["resnet", "vit"])


def test_labels_that_all_rows_have_are_not_said():
    rows = [entry(0, 0.8, model=model, mode="BW", pictures="held out") for model in ("resnet", "vit")]
    assert [e.labels.keys() for e in telling(rows, Layout())] == [{"seed", "pair", "mode", "model"}] * 2


def test_csv_is_unrounded(entries):
    lines = list(csv.DictReader(io.StringIO(cells_csv(entries))))
    (line,) = [x for x in lines if (x["pair"], x["mode"], x["figure"]) == ("bnn++", "BW", FIGURE)]
    found = list(values(entries, pair="bnn++", mode="BW").values())
    assert float(line["mean"]) == statistics.fmean(found)
    assert float(line["sd"]) == statistics.stdev(found)
    assert line["seeds"] == "5"


def test_the_table_of_differences_counts_what_is_sure(entries):
    found = differences(entries, "pair", "bnn++", "bnn+", FIGURE)
    table = difference_table(found)
    assert [line[3] == "+" for line in table.lines] == [d.excludes_zero and d.mean > 0 for d in found]
    assert table.notes[0].startswith("bnn++ is better in 2 of 2 settings; the interval excludes 0 for it in ")


def test_pictures_show_means_and_intervals(entries):
    (figure,) = pictures.accuracies(entries, Layout()).values()
    first = figure.axes[0]
    found = [100 * v for v in values(entries, pair="bnn+", mode="BW").values()]
    bars = {round(line.get_xdata()[0], 9) for line in first.lines if line.get_marker() == "o"}
    assert round(statistics.fmean(found), 9) in bars
    compared = differences(entries, "pair", "bnn++", "bnn+", FIGURE)
    forest = pictures.differences([compared]).axes[0]
    drawn = [tuple(line.get_xdata()) for line in forest.lines if len(set(line.get_xdata())) == 2]
    assert drawn == [pytest.approx(tuple(100 * end for end in d.interval)) for d in compared]
    assert list(pictures.curves(entries, Layout())) == ["BW E2E", "BWA E2E"]


def test_a_report_is_written_beside_the_ledger(entries, tmp_path):
    grid = Grid.read(write_grid(tmp_path))
    paths = report.write(entries, grid, tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in paths} == {
        "tables.md", "cells.csv", "differences.csv", "figures/accuracies.png", "figures/differences.png",
        "figures/curves-BW-E2E.png", "figures/curves-BWA-E2E.png",
    }  # fmt: skip
    assert "bnn++ against bnn+" in (tmp_path / "tables.md").read_text()


def test_a_row_agrees_to_the_bit_or_within_the_spread_of_its_seeds(entries):
    recorded = next(e for e in entries if e.labels["pair"] == "bnn+")
    labels = {name: label for name, label in recorded.labels.items() if name != "seed"}
    spreads = [Spread.of(found) for found in cells(entries, FIGURE).values()]
    low, high = next_interval(Spread.of(list(values(entries, **labels).values())), Pooled.of(spreads))

    def again(accuracy):
        return verdict(recorded, entry(int(recorded.labels["seed"]), accuracy, **labels), entries)

    assert again(recorded.figure(FIGURE)).reason == "the same to the bit"
    assert again((low + high) / 2).agrees
    assert not again(high + 1e-6).agrees
    assert "outside" in again(low - 1e-6).reason
    alone = [recorded]
    assert not verdict(recorded, entry(0, 0.5, **labels), alone).agrees


def test_the_end_is_that_of_the_workers_in_turn():
    done = [entry(0, pair=pair) for pair in ("a", "b")]  # of one second each
    waiting = [{"seed": "1", "pair": "a"}] * 3
    assert remaining([], waiting, [], 2) is None
    assert remaining([], waiting, done, 2) == 2
    half = Share({"seed": "1", "pair": "c"}, elapsed=10, begun=0.25, done=0.5)  # 40 s in all, 20 to go
    assert remaining([half], waiting, done, 2) == 20
    assert remaining([half], [{"seed": "1", "pair": "c"}], done, 1) == 60
    assert remaining([Share({"seed": "1", "pair": "a"}, elapsed=0.25)], [], done, 1) == 0.75
