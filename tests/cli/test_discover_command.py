"""`proxconnect discover`, on rows that train nothing."""

import json

import pytest
import yaml
from test_documents import keys

from proxconnect._support.installation import pip_install
from proxconnect.cli.command import main
from training.study.grids import InTurn

SEARCH = {
    "run": "training.discovery.toy_rows:run_row",
    "base": {"trainer": {"max_epochs": 1}, "model": {}},
    "spaces": {"family": {"parameters": {"gap": {"from": 0, "to": 2}}, "set": {"model.gap": "$gap"}}, "rival": {}},
    "rounds": [{"candidates": 3}],
}


@pytest.fixture
def search(tmp_path, monkeypatch):
    """A call of the command with a search file of other keys."""
    monkeypatch.setattr("proxconnect.cli.verbs.discover.workers_of", lambda _: InTurn)
    path = tmp_path / "search.yaml"

    def call(*options, **changes):
        path.write_text(yaml.safe_dump(SEARCH | changes))
        return main(["discover", str(path), "--work", str(tmp_path / "work"), *options])

    return call


def test_the_winners_are_printed_and_are_those_of_json(search, capsys):
    assert search("--json") == 0
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert set(answer) == keys("discover")
    assert [winner["space"] for winner in answer["winners"]] == ["family", "rival"]
    assert f"family {answer['winners'][0]['candidate']}: gap" in printed.err
    assert search() == 0
    assert f"family {answer['winners'][0]['candidate']}: gap" in capsys.readouterr().out


def test_a_row_that_fails_is_named_and_the_code_is_1(search, capsys):
    assert search(base={**SEARCH["base"], "fails": True}) == 1
    assert "failed: round 1 family 1" in capsys.readouterr().out


def test_it_says_which_extra_is_absent(search, capsys, absent):
    absent("optuna")
    assert search() == 2
    assert pip_install("discover") in capsys.readouterr().err
