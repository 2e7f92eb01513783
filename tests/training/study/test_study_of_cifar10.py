"""The grids of the study on CIFAR-10 (JPEG): equal budgets of tuning, which reach each row of the core."""

import shutil
from collections import Counter
from functools import reduce
from pathlib import Path

import pytest
import yaml

from proxconnect.training.study.grid import Grid
from proxconnect.training.study.grid_rows import rows_of
from proxconnect.training.study.rows import overridden

FOLDER = Path(__file__).parents[3] / "studies" / "cifar10"
CHOSEN = ("model", "pair", "mode", "start")
CHOICES = {
    "trials": {"fp.tuned.yaml": ("float",), "tuned.yaml": ("BW", "BWA")},
    "course": {"course.tuned.yaml": ("BW", "BWA")},
    "inputs": {"inputs.tuned.yaml": ("BWA",)},
}
"""The files that `--choose` writes from each grid of trials, with the modes of their rows, as in README.md."""


def choice(labels):
    return tuple(labels[axis] for axis in CHOSEN)


@pytest.fixture(scope="module")
def grids(tmp_path_factory):
    """The rows of all grids, and the core, after each grid of trials chose its last trial of all."""
    folder = tmp_path_factory.mktemp("study") / "cifar10"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("figures", "*.tuned.yaml", "tuned.yaml"))
    found = {}
    for name, files in CHOICES.items():
        grid = Grid.read(folder / "tuning" / f"{name}.yaml")
        rows = found[name] = rows_of(grid)
        for file, modes in files.items():
            last = {choice(row.labels): row for row in rows if row.labels["mode"] in modes}
            settings = [{"when": dict(zip(CHOSEN, key, strict=True)), "set": tried(grid, row.labels)}
                        for key, row in last.items()]  # fmt: skip
            (folder / "tuning" / file).write_text(yaml.safe_dump({"settings": settings}))
    core = Grid.read(folder / "core.yaml")
    return found | {"core": rows_of(core)}, core


def tried(grid, labels):
    """The changes of the labels that `--choose` writes into a setting."""
    changes = [grid.axes[axis][label].overrides for axis, label in labels.items() if axis not in (*CHOSEN, "seed")]
    return reduce(overridden, changes, {})


def test_each_pair_has_the_same_number_of_trials(grids):
    rows, _ = grids
    for name, number in (("trials", 20), ("course", 12), ("inputs", 7)):
        counts = Counter(choice(row.labels) for row in rows[name] if name == "trials" or row.labels["mode"] != "float")
        assert set(counts.values()) == {number}


def test_each_row_has_the_settings_of_every_grid_of_trials(grids):
    rows, core = grids
    for row in rows["core"]:
        is_float = row.labels["mode"] == "float" or row.labels["pair"] == "PTQ"
        expected = 1 if is_float else 2 if row.labels["mode"] == "BW" else 3
        assert len(core.tuned_for(row.labels)) == expected, row


def test_the_published_heuristics_keep_their_mu_and_the_moved_ones_do_not(grids):
    rows, _ = grids
    for row in rows["core"]:
        course = row.configuration["model"].get("sharpening", {}).get("weights", {})
        if row.labels["pair"] == "bnn+":
            assert course["shape"] == "constant"
        if row.labels["pair"] in ("bnn+ moved", "bnn++"):
            assert course["start"] < course["end"]
            assert "shape" not in course


def test_every_setting_of_the_comparison_is_ranked(grids):
    rows, core = grids
    everywhere, published = core.ranks["pair"]
    places = {label: {(r.labels["model"], r.labels["mode"], r.labels["start"])
                      for r in rows["core"] if r.labels["pair"] == label} for label in core.axes["pair"]}  # fmt: skip
    assert len(set.intersection(*(places[label] for label in everywhere))) == 12
    assert len(set.intersection(*(places[label] for label in published))) == 4


def test_seeds_are_ten_for_the_pairs_in_question_and_three_for_others(grids):
    rows, _ = grids
    seeds = Counter((choice(row.labels)) for row in rows["core"])
    many = ("fp", "bnn+", "bnn+ moved", "bnn++")
    assert all(count == (10 if key[1] in many else 3) for key, count in seeds.items())
