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
SETTING = ("model", "pair", "mode")
CHOICES = {
    "trials": {"fp.tuned.yaml": (SETTING, "float"), "tuned.yaml": (SETTING, "BW BWA")},
    "finetuning": {"finetuning.tuned.yaml": ((*SETTING, "start"), "BW BWA")},
}
"""The files that `--choose` writes from each grid of trials, by which axes and of which modes, as in README.md."""


def choice(labels, axes=(*SETTING, "start")):
    return tuple(labels[axis] for axis in axes)


@pytest.fixture(scope="module")
def grids(tmp_path_factory):
    """The rows of all grids, and the core, after each grid of trials chose its last trial of all."""
    folder = tmp_path_factory.mktemp("study") / "cifar10"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("figures", "*.tuned.yaml", "tuned.yaml"))
    found = {}
    for name, files in CHOICES.items():
        grid = Grid.read(folder / "tuning" / f"{name}.yaml")
        rows = found[name] = rows_of(grid)
        for file, (axes, modes) in files.items():
            last = {choice(row.labels, axes): row for row in rows if row.labels["mode"] in modes.split()}
            settings = [{"when": dict(zip(axes, key, strict=True)), "set": tried(grid, row.labels, axes)}
                        for key, row in last.items()]  # fmt: skip
            (folder / "tuning" / file).write_text(yaml.safe_dump({"settings": settings}))
    core = Grid.read(folder / "core.yaml")
    return found | {"core": rows_of(core)}, core


def tried(grid, labels, axes):
    """The changes of the labels that `--choose` writes into a setting."""
    changes = [grid.axes[axis][label].overrides for axis, label in labels.items() if axis not in (*axes, "seed")]
    return reduce(overridden, changes, {})


def test_each_pair_of_a_network_has_the_same_number_of_trials(grids):
    rows, _ = grids
    from_scratch = {"resnet": 16, "bireal": 12, "vit": 12}  # the first has one rate more
    for name, numbers, start in (("trials", from_scratch, "E2E"), ("finetuning", {"resnet": 4, "bireal": 4}, "FT")):
        for model, number in numbers.items():
            chosen = (row.labels for row in rows[name] if (row.labels["model"], row.labels["start"]) == (model, start))
            counts = Counter(choice(labels) for labels in chosen)
            assert set(counts.values()) == {number}


def test_each_row_has_the_settings_of_every_grid_of_trials(grids):
    rows, core = grids
    for row in rows["core"]:
        expected = 2 if row.labels["start"] == "FT" else 1
        assert len(core.tuned_for(row.labels)) == expected, row


def test_the_published_heuristics_keep_their_mu_and_the_moved_ones_do_not(grids):
    rows, _ = grids
    for row in rows["core"]:
        course = row.configuration["model"].get("sharpening", {}).get("weights", {})
        if row.labels["pair"] == "bnn+":
            assert course["shape"] == "constant"
        if row.labels["pair"] in ("bnn+ moved", "bnn++"):
            assert course.get("start", 0.1) < course["end"]  # the usual start of bnn++
            assert "shape" not in course


def test_every_setting_of_the_comparison_is_ranked(grids):
    rows, core = grids
    everywhere, published = core.ranks["pair"]
    places = {label: {(r.labels["model"], r.labels["mode"], r.labels["start"])
                      for r in rows["core"] if r.labels["pair"] == label} for label in core.axes["pair"]}  # fmt: skip
    assert len(set.intersection(*(places[label] for label in everywhere))) == 7
    assert len(set.intersection(*(places[label] for label in published))) == 4


def test_seeds_are_ten_for_the_pairs_in_question_and_three_for_others(grids):
    rows, _ = grids
    seeds = Counter((choice(row.labels)) for row in rows["core"])
    for (model, pair, mode, _), count in seeds.items():
        is_many = pair in ("fp", "bnn+", "bnn+ moved", "bnn++") and model != "vit" and mode != "BWAA"
        assert count == (10 if is_many else 3)
