"""The grids of the study of record: what is tuned reaches each row."""

import shutil
from pathlib import Path

import pytest
import yaml

from proxconnect.training.study.grid import Grid
from proxconnect.training.study.grid_rows import rows_of

FOLDER = Path(__file__).parents[3] / "studies" / "fashion-mnist"
CHOSEN = ("model", "pair", "mode", "start", "rule")


@pytest.fixture
def folder(tmp_path):
    """The grids beside settings for all that the trials try, each of which names itself."""
    folder = tmp_path / "study"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("figures", "ledger.jsonl"))
    trials = rows_of(Grid.read(folder / "tuning" / "trials.yaml"))
    tried = dict.fromkeys(tuple(row.labels[axis] for axis in CHOSEN) for row in trials)
    settings = [{"when": dict(zip(CHOSEN, key, strict=True)), "set": {"tuned": " ".join(key)}} for key in tried]
    (folder / "tuning" / "tuned.yaml").write_text(yaml.safe_dump({"settings": settings}))
    return folder


def test_each_row_of_the_core_has_one_tuned_setting(folder):
    core = Grid.read(folder / "core.yaml")
    counts = {str(row): len(core.tuned_for(row.labels)) for row in rows_of(core)}
    assert {row: count for row, count in counts.items() if count != 1} == {}


def test_post_training_is_trained_as_the_float_network(folder):
    rows = [row for row in rows_of(Grid.read(folder / "core.yaml")) if row.labels["rule"] == "PTQ"]
    assert {row.configuration["tuned"] for row in rows} == {"resnet fp float E2E PC++", "vit fp float E2E PC++"}
