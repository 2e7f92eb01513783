"""Tuning: the best of the same trials for each pair, written so that another grid takes it."""

import pytest
import yaml
from grids import write_grid
from test_ledger import entry

from proxconnect.training.study import choosing as module
from proxconnect.training.study.grid import Grid
from proxconnect.training.study.grid_rows import rows_of
from proxconnect.training.study.ledger import Entry
from proxconnect.training.study.yaml_files import GridError

AXES = {
    "seed": [0, 1],
    "pair": {"bnn+": {"model.weights": "bnn+"}, "bnn++": {"model.weights": "bnn++"}},
    "rate": {"0.01": {"optimizer.lr": 0.01}, "0.1": {"optimizer.lr": 0.1}},
    "end": {"10": {"mu.end": 10}, "30": {"mu.end": 30}},
    "pictures": {"held out": {"data.validation": 5000}},
}

BEST = {"bnn+": ("0.01", "10"), "bnn++": ("0.1", "30")}


@pytest.fixture
def grid(tmp_path) -> Grid:
    return Grid.read(write_grid(tmp_path, axes=AXES, blocks=[{}], compare={}))


def finished(grid: Grid) -> dict[str, Entry]:
    """Entries in which the best trial of each pair has the highest mean, though not the highest seed."""
    found = {}
    for row in rows_of(grid):
        is_best = (row.labels["rate"], row.labels["end"]) == BEST[row.labels["pair"]]
        accuracy = 0.8 if is_best else (0.9 if row.labels["seed"] == "0" else 0.5)
        found[row.key] = Entry.of(row, {"accuracy": {"reestimated": accuracy}}, entry().versions, "", "")
    return found


def test_the_best_mean_is_chosen_and_another_grid_takes_it(grid, tmp_path):
    found = module.trials(rows_of(grid), finished(grid), grid, ["pair"], "accuracy.reestimated")
    path = tmp_path / "tuned.yaml"
    module.write_best(found, grid, ["pair"], "accuracy.reestimated", path)
    content = yaml.safe_load(path.read_text())
    assert {s["when"]["pair"]: s["set"] for s in content["settings"]} == {
        "bnn+": {"optimizer": {"lr": 0.01}, "mu": {"end": 10}}, "bnn++": {"optimizer": {"lr": 0.1}, "mu": {"end": 30}},
    }  # fmt: skip
    assert len(content["trials"]) == 8
    assert "The best by accuracy.reestimated of 4 trials for each, of 2 seeds" in path.read_text()
    (tmp_path / "next").mkdir()
    changes = {"axes": {"pair": AXES["pair"]}, "blocks": [{}], "compare": {}, "tuned": ["../tuned.yaml"]}
    rows = rows_of(Grid.read(write_grid(tmp_path / "next", **changes)))
    assert {row.labels["pair"]: row.configuration["mu"]["end"] for row in rows} == {"bnn+": 10, "bnn++": 30}


def test_a_choice_among_unequal_trials_is_refused(grid):
    entries, rows = finished(grid), rows_of(grid)
    fewer = [
        row
        for row in rows
        if row.labels != {"seed": "1", "pair": "bnn+", "rate": "0.1", "end": "30", "pictures": "held out"}
    ]
    with pytest.raises(GridError, match=r"bnn\+\+ has 4 trials of 8 rows, bnn\+ 4 of 7: give each the same"):
        module.trials(fewer, entries, grid, ["pair"], "accuracy.reestimated")
    with pytest.raises(GridError, match="1 of 16 rows are not finished, as 'seed 0"):
        module.trials(rows, dict(list(entries.items())[1:]), grid, ["pair"], "accuracy.reestimated")
    with pytest.raises(GridError, match="no row has these labels"):
        module.trials([], entries, grid, ["pair"], "accuracy.reestimated")


def test_names_are_looked_up(grid):
    entries, rows = finished(grid), rows_of(grid)
    with pytest.raises(GridError, match="unknown axis in --choose 'pairs': did you mean 'pair'"):
        module.trials(rows, entries, grid, ["pairs"], "accuracy.reestimated")
    with pytest.raises(GridError, match="--choose averages over seeds"):
        module.trials(rows, entries, grid, ["pair", "seed"], "accuracy.reestimated")
    with pytest.raises(GridError, match=r"no number 'accuracy.best': choose by one of accuracy.reestimated"):
        module.trials(rows, entries, grid, ["pair"], "accuracy.best")
