"""A search finds what was planted, goes on where it was stopped, and says what is wrong with a space."""

import io
import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from rich.console import Console
from torch import nn

import proxconnect as pc
from proxconnect.pairs import PAIRS, Pair, prox, transform
from proxconnect.training.binarization import Course
from proxconnect.training.discovery import laws, report
from proxconnect.training.discovery.discover import Discovery, RowError
from proxconnect.training.discovery.laws import ends, heuristics, refusal
from proxconnect.training.discovery.proposals import propose
from proxconnect.training.discovery.search import Candidate, Search
from proxconnect.training.discovery.space import Range, read_space
from proxconnect.training.study.grid import Grid
from proxconnect.training.study.grid_rows import rows_of
from proxconnect.training.study.ledger import read
from proxconnect.training.study.rows import Workplace
from proxconnect.training.study.yaml_files import GridError
from training.discovery.toy_rows import BEST
from training.study.grids import InTurn

ROOT = Path(__file__).parents[3]
SEARCH = {
    "run": "training.discovery.toy_rows:run_row",
    "base": {"trainer": {"max_epochs": 1}, "data": {"init_args": {"subset": 1000}}},
    "settings": {"easy": {}, "hard": {"harder": 0.1}},
    "common": {"parameters": {"end": {"from": 1, "to": 300, "log": True}}, "set": {"model.end": "$end"}},
    "spaces": {
        "family": {
            "parameters": {"gap": {"from": 0, "to": 2}, "T": ["a", "b", "c"]},
            "set": {"model.gap": "$gap", "model.T": "$T", "model.words": "$T of gap($gap)"},
        },
        "rival": {"set": {"worse": 0.15}},
    },
    "rounds": [
        {"candidates": 24},
        {"candidates": 4, "seeds": [1, 2], "set": {"trainer.max_epochs": 4}},
        {"candidates": 1, "seeds": [3, 4, 5], "set": {"trainer.max_epochs": 10}},
    ],
    "confirm": {"seeds": [10, 11], "set": {"trainer.max_epochs": 20}},
    "batch": 6,
}


class StopsAt(InTurn):
    """Workers that are interrupted before they run their row number `last`."""

    def __init__(self, last):
        super().__init__()
        self.left = last

    def give(self, order):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        super().give(order)


def written(folder, **changes):
    folder.mkdir(exist_ok=True)
    path = folder / "search.yaml"
    path.write_text(yaml.safe_dump(SEARCH | changes, sort_keys=False))
    return path


def discovery(folder, **changes):
    path, console = written(folder, **changes), Console(file=io.StringIO(), width=120)
    return Discovery(Search.read(path), folder, Workplace(folder / "work"), console)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """An unbroken search with its report."""
    search = discovery(tmp_path_factory.mktemp("search"))
    search.run(InTurn, 1)
    return search, report.write(search, search.console)


def test_it_finds_the_planted_optimum(found):
    winner, rival = found[0].winners()
    assert winner.candidate.values["T"] == BEST["T"]
    assert winner.candidate.values["gap"] == pytest.approx(BEST["gap"], abs=0.35)
    assert BEST["end"] / 3 < rival.candidate.values["end"] < BEST["end"] * 3
    assert winner.rounds[-1]["easy"] > rival.rounds[-1]["easy"]


def test_chance_alone_is_farther_from_it(found):
    """The estimator's later candidates are better than the first ones, which are drawn by chance."""
    family = found[0].standings["family"]
    first, later = ([s.rounds[0]["easy"] for s in family[part]] for part in (slice(0, 12), slice(12, 24)))
    assert sum(later) > sum(first)


def test_spaces_have_equal_budgets_and_the_best_go_on(found):
    search, _ = found
    for ranked in search.standings.values():
        assert [sum(len(s.rounds) > n for s in ranked) for n in range(3)] == [24, 4, 1]
        went_on = [s.rounds[0]["easy"] for s in ranked if len(s.rounds) > 1]
        stayed = [s.rounds[0]["easy"] for s in ranked if len(s.rounds) == 1]
        assert min(went_on) >= max(stayed)
    rows = len(read(search.folder / "ledger.jsonl"))
    assert rows == 2 * 2 * (24 + 4 * 2 + 1 * 3)


def test_it_writes_tables_pictures_and_the_grid_that_confirms_it(found):
    search, paths = found
    assert all(path.stat().st_size for path in paths)
    assert {"landscape-family.png", "candidates.csv", "confirmation.yaml"} <= {path.name for path in paths}
    rows = rows_of(Grid.read(search.folder / "confirmation.yaml"))
    assert len(rows) == 2 * 2 * 2
    of_winner = next(row for row in rows if row.labels["space"] == "family")
    values = search.winners()[0].candidate.values
    assert of_winner.configuration["model"]["words"] == f"{values['T']} of gap({values['gap']:g})"
    assert of_winner.configuration["trainer"]["max_epochs"] == 20
    assert {row.configuration["seed_everything"] for row in rows} == {10, 11}


def test_it_says_how_long_it_takes(found):
    """All rows take a minute for a budget of 1 epoch, so 60 s; 4 epochs count four times as much, and so on."""
    text = found[0].console.file.getvalue()
    assert "round 1: 12 candidates, 24 rows to run; a forecast follows" in text
    rest = 2 * 2 * (18 * 1 + 4 * 2 * 4 + 3 * 10)
    assert f"24 rows to run; about {rest // 60} h {rest % 60:02} min left" in text


@pytest.mark.parametrize(
    "last", [pytest.param(1, marks=pytest.mark.thorough), 20, pytest.param(50, marks=pytest.mark.thorough), 100]
)
def test_a_stopped_search_goes_on_to_the_same_ledger(found, tmp_path, last):
    with pytest.raises(KeyboardInterrupt):
        discovery(tmp_path / "search").run(lambda: StopsAt(last), 1)
    again = discovery(tmp_path / "search")
    again.run(InTurn, 1)
    known = [(entry.key, entry.measured) for entry in read(found[0].folder / "ledger.jsonl")]
    assert [(entry.key, entry.measured) for entry in read(again.folder / "ledger.jsonl")] == known
    names = [(str(s.candidate), s.rank) for s in again.winners()]
    assert names == [(str(s.candidate), s.rank) for s in found[0].winners()]


def test_a_search_stopped_in_its_first_batch_forgets_no_candidate(tmp_path):
    """As another version of Optuna could propose others."""
    with pytest.raises(KeyboardInterrupt):
        discovery(tmp_path).run(lambda: StopsAt(60), 1)
    known = (tmp_path / "candidates.json").read_text()
    (tmp_path / "ledger.jsonl").unlink()
    with pytest.raises(KeyboardInterrupt):
        discovery(tmp_path).run(lambda: StopsAt(1), 1)
    assert (tmp_path / "candidates.json").read_text() == known


def test_a_finished_search_trains_nothing_again(found):
    search = Discovery(found[0].search, found[0].folder, found[0].workplace, found[0].console)
    search.run(lambda: StopsAt(1), 1)
    assert [str(s.candidate) for s in search.winners()] == [str(s.candidate) for s in found[0].winners()]


def test_a_row_that_fails_stops_the_search_and_is_named(tmp_path):
    search = discovery(tmp_path, base={**SEARCH["base"], "fails": True})
    with pytest.raises(RowError, match=r"round 1 family 1 easy seed 0 failed, see .*error\.txt: fix"):
        search.run(InTurn, 1)


@pytest.mark.parametrize("content", ["[", "{}", '{"family": [{"gap": 9, "T": "a", "end": 5}], "rival": []}'])
def test_candidates_of_another_search_are_refused(tmp_path, content):
    (tmp_path / "candidates.json").write_text(content)
    with pytest.raises(GridError, match="give another --folder"):
        discovery(tmp_path).run(InTurn, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spaces": {}}, "needs `spaces:` and `rounds:`"),
        ({"rounds": [{"candidates": 2}, {"candidates": 3}]}, "a later round cannot have more"),
        ({"rounds": [{"candidates": 0}]}, "candidates must be a whole number of at least 1; got 0"),
        ({"rounds": [{"candidates": 2, "seeds": 3}]}, r"seeds: 3 is no list, as \[0, 1, 2\]"),
        ({"round": []}, "unknown key of .* 'round'"),
        (
            {"spaces": {"a": {"set": {"x": "$gup"}, "parameters": {"gap": [1, 2]}}}},
            "gup.: did you mean .gap",
        ),
        ({"spaces": {"a": {"parameters": {"gap": [1, 2]}}}}, r"nothing in `set` has \$gap"),
        ({"spaces": {"a": {"parameters": {"gap": [1]}}}}, "is no list of two choices or more"),
        ({"spaces": {"a": {"parameters": {"gap": 3}}}}, "is no parameter: give a list of choices, or a range"),
        ({"spaces": {"a": {"parameters": {"gap": {"from": 2, "to": 1}}}}}, "is no range: `from` is less than `to`"),
        ({"spaces": {"a": {"parameters": {"gap": {"from": 0, "to": 1, "log": True}}}}}, "above 0 if log is true"),
        ({"spaces": {"a": {"first": [{"end": 999}]}}}, "end needs a value of 1 to 300; got 999"),
        ({"spaces": {"a": {"parameters": {"gap": [[1], [2]]}}}}, "different texts or numbers"),
        ({"spaces": {"a": {"parameters": [1]}}}, "spaces: a: parameters must be a mapping"),
        ({"spaces": {"a": {"first": 3}}}, "first: 3 is no list of values"),
        ({"spaces": {"a": {"first": [3]}}}, "first must be a mapping"),
        ({"base": [1]}, "base must be a mapping"),
        ({"confirm": {"seeds": [0, 9]}}, "confirm: 0 is a seed of the search, too: name fresh ones"),
        ({"confirm": {"set": {}}}, "confirm: seeds: None is no list"),
        ({"confirm": {"seeds": [9], "candidates": 3}}, "unknown key of confirm 'candidates'"),
        ({"spaces": {"a": {"first": [{"and": 9}]}}}, "unknown parameter .*'and'"),
    ],
)
def test_bad_files_are_refused_in_words(tmp_path, changes, message):
    with pytest.raises(GridError, match=message):
        Search.read(written(tmp_path, **changes))


@pytest.mark.parametrize(
    ("weights", "course", "message"),
    [
        ("clip of gap(1, 1)", {}, None),
        ("bnn+", {}, None),
        ("mine:pair", {}, None),
        ("clip of gap(2)", {"start": 1.0}, r"B = 0 for all \|x\| <= 1 at its first μ = 1, so that nothing trains"),
        ("clip of gap(0.3)", {"start": 0.1, "end": 30.0}, None),  # freezes as μ grows
        ("parq", {"start": 0.1}, "parq allows no μ = 0.1"),
        ("clip of hole(1)", {}, "unknown prox map 'hole'"),
        ({"head": "bnn++", "*": "clip of hole(1)"}, {}, "unknown prox map 'hole'"),
    ],
)
def test_pairs_keep_the_laws_before_they_train(weights, course, message):
    configuration = {"model": {"binary": {"weights": weights}, "sharpening": {"weights": course}}}
    reason = refusal(configuration)
    assert (reason is None) if message is None else re.search(message, reason)


def test_a_prox_that_falls_is_refused():
    """A family of the user's own may break the law that its pair declares."""

    class Falling(prox.Prox):
        def __call__(self, x, mu):
            return -x

    pair = Pair("falling", Falling(), transform.sign_swish)
    assert "is not legitimate at μ = 0.1" in laws._broken(pair, {})


@pytest.mark.parametrize(
    ("pair", "course", "expected"),
    [
        ("bc", {}, None),
        ("bnn++", {}, (0.1, 30.0)),
        ("bnn++", {"start": 0.3}, (0.3, 30.0)),
        ("bnn++", {"start": 2, "shape": "constant"}, (2.0, 2.0)),
        ("bnn+", {}, (1.0, 1.0)),
        ("bnn+", {"end": 5.0}, (0.1, 5.0)),
        ("bnn+", {"start": 0.5}, (0.5, 30.0)),
    ],
)
def test_the_ends_of_a_course_are_those_of_its_sharpening(pair, course, expected):
    assert ends(PAIRS[pair], course) == expected
    if expected is not None:
        model = pc.binarize(nn.Linear(4, 4), pair, keep=None)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        Course(**course, hold=0.0).attach(optimizer, model, 3, "weights")
        seen = [float(model.weight_quantizer.mu)]
        for _ in range(3):
            model(torch.ones(1, 4)).sum().backward()
            optimizer.step()
            seen.append(float(model.weight_quantizer.mu))
        assert (seen[0], seen[-1]) == pytest.approx(expected)


def test_heuristics_are_called_so():
    binary = {"weights": "bnn++", "activations": "bnn+"}
    assert heuristics({"model": {"binary": binary}}) == ["bnn+ (activations)"]
    assert heuristics({"model": {"binary": None}}) == []


def test_refused_candidates_count_and_come_last(tmp_path):
    spaces = {"gaps": {"parameters": {"T": ["sign_swish of gap(1)", "clip of gap(99)"]},
                       "set": {"model.binary.weights": "$T"}}}  # fmt: skip
    search = discovery(tmp_path, spaces=spaces, rounds=[{"candidates": 6}])
    search.run(InTurn, 1)
    refused = [s for s in search.standings["gaps"] if not s.may_train]
    assert 0 < len(refused) < 6
    assert all(s.rank == 6 and s.verdict.startswith("refused: clip of gap(99)") for s in refused)
    assert search.winners()[0].candidate.values["T"] == "sign_swish of gap(1)"


def test_a_space_of_refused_pairs_ends_the_search(tmp_path):
    spaces = {"gaps": {"parameters": {"T": ["clip", "hardtanh"]}, "set": {"model.binary.weights": "$T of gap(999)"}}}
    with pytest.raises(GridError, match="spaces: gaps: every candidate was refused: fix the space"):
        discovery(tmp_path, spaces=spaces).run(InTurn, 1)


def test_proposals_begin_with_the_given_ones_and_stay_inside():
    space = read_space(
        "s",
        {"parameters": {"gap": {"from": 0.1, "to": 2, "log": True}, "T": ["a", "b"]}, "set": {"x": "$gap $T"},
         "first": [{"gap": 1, "T": "a"}, {"gap": 2, "T": "b"}]},
        {},
    )  # fmt: skip
    assert propose(space, [], [], 1, 0) == [{"gap": 1, "T": "a"}]
    values = propose(space, [{"gap": 1, "T": "a"}], [1.0], 9, 0)
    assert values[0] == {"gap": 2, "T": "b"}
    assert values == propose(space, [{"gap": 1, "T": "a"}], [1.0], 9, 0)
    assert values[1:] != propose(space, [{"gap": 1, "T": "a"}], [1.0], 9, 1)[1:]
    assert all(0.1 <= v["gap"] <= 2 and float(f"{v['gap']:.3g}") == v["gap"] for v in values)
    assert len({json.dumps(v) for v in values}) > 5


@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_searches_of_the_repository_can_be_read(name):
    search = Search.read(ROOT / "studies" / "discover" / name / "search.yaml")
    assert search.confirm is not None
    for space in search.spaces:
        values = propose(space, [], [], 1, search.seed)[0]
        for row in search.rows(Candidate(space, 1, values), 1):
            assert "$" not in json.dumps(row.configuration)


def test_the_page_shows_the_search_of_the_repository():
    page = (ROOT / "docs" / "discover.md").read_text(encoding="utf-8")
    shown = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])
    assert shown == yaml.safe_load((ROOT / "studies" / "discover" / "digits" / "search.yaml").read_text())


def test_rounding_stays_in_the_range():
    assert Range(0.12345, 1.23456).rounded(1.23456) == 1.23
    assert Range(0.12345, 0.2).rounded(0.12346) == 0.12345
    assert Range(0.0, 1.23456).rounded(1.2361) == 1.23456
