"""Mean ranks against the worked example of Demšar 2006 (JMLR 7, section 3.2.2, table 6) and against scipy."""

import math

import numpy
import pytest
from grids import write_grid
from scipy import stats
from test_ledger import entry

from proxconnect.training.study import results
from proxconnect.training.study.grid import Grid
from proxconnect.training.study.ranks import ranking, ranking_table
from proxconnect.training.study.tables import frame

LEARNERS = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")
AREAS = (
    (0.763, 0.768, 0.771, 0.798), (0.599, 0.591, 0.590, 0.569), (0.954, 0.971, 0.968, 0.967),
    (0.628, 0.661, 0.654, 0.657), (0.882, 0.888, 0.886, 0.898), (0.936, 0.931, 0.916, 0.931),
    (0.661, 0.668, 0.609, 0.685), (0.583, 0.583, 0.563, 0.625), (0.775, 0.838, 0.866, 0.875),
    (1.000, 1.000, 1.000, 1.000), (0.940, 0.962, 0.965, 0.962), (0.619, 0.666, 0.614, 0.669),
    (0.972, 0.981, 0.9752, 0.975), (0.957, 0.978, 0.946, 0.970),
)  # fmt: skip
"""Areas under ROC curves on fourteen data sets, of which the paper ranks voting, 0.975 twice, as 2 and 3."""


def rows_of(areas, learners=LEARNERS):
    """Rows of two seeds around each area."""
    return [
        entry(seed, area + shift, pair=learner, mode=f"data set {n}")
        for n, line in enumerate(areas)
        for learner, area in zip(learners, line, strict=True)
        for seed, shift in ((0, -1e-9 * area), (1, 0.0))
    ]


def test_the_example_of_the_paper_comes_out():
    found = ranking(frame(rows_of(AREAS)), "pair", LEARNERS)
    assert [round(mean, 3) for mean in found.means.values()] == [3.143, 2.000, 2.893, 1.964]
    assert found.settings == 14
    assert found.friedman == pytest.approx(9.28, abs=0.005)
    assert found.f_statistic == pytest.approx(3.69, abs=0.005)
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)
    table = ranking_table(found)
    assert [line[:2] for line in table.lines[:2]] == [("C4.5+m+cf", "1.96"), ("C4.5+m", "2.00")]
    assert table.lines[0][2] == "[1.34, 2.59]"


def test_without_ties_the_statistic_is_that_of_scipy():
    areas = numpy.random.default_rng(0).random((9, 5))
    found = ranking(frame(rows_of(areas, [*"abcde"])), "pair", [*"abcde"])
    assert found.friedman == pytest.approx(stats.friedmanchisquare(*areas.T).statistic)


def test_two_labels_need_the_usual_quantile():
    found = ranking(frame(rows_of([(0.9, 0.8)] * 6, "ab")), "pair", ["a", "b"])
    assert found.critical_difference == pytest.approx(stats.norm.ppf(0.975) / math.sqrt(6))
    assert (found.f_statistic, found.p_value) == (math.inf, 0)


def test_a_setting_that_lacks_a_label_does_not_count():
    rows = [*rows_of([(0.9, 0.8), (0.7, 0.8)], "ab"), entry(0, 0.1, pair="a", mode="alone")]
    found = ranking(frame(rows), "pair", ["a", "b"])
    assert (found.settings, found.means) == (2, {"a": 1.5, "b": 1.5})
    assert ranking(frame([*rows[:4], rows[-1]]), "pair", ["a", "b"]) is None  # one setting has both


def test_a_grid_names_what_is_ranked(tmp_path):
    grid = Grid.read(write_grid(tmp_path, ranks={"pair": [["bnn+", "bnn++"], ["fp", "bnn++"]]}))
    entries = [entry(0, accuracy, pair=pair, mode=mode)
               for mode in ("BW", "BWA") for pair, accuracy in (("bnn+", 0.8), ("bnn++", 0.9))]  # fmt: skip
    (found,) = results.figures(entries, grid)["ranks"]
    assert (found["axis"], found["settings"], found["means"]) == ("pair", 2, {"bnn+": 2.0, "bnn++": 1.0})
    assert "Mean rank of each pair over 2 settings" in (results.write(entries, grid, tmp_path)[0]).read_text()
