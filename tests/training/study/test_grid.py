"""Grid files: what they expand to, addresses, and one-line errors that name what is near."""

import datetime
from pathlib import Path

import pytest
import yaml
from grids import GRID, write_grid
from hypothesis import given
from hypothesis import strategies as st

import proxconnect
from proxconnect.training.study import rows as rows_module
from proxconnect.training.study import yaml_files
from proxconnect.training.study.grid import Grid
from proxconnect.training.study.grid_rows import rows_of, selected
from proxconnect.training.study.rows import address, overridden
from proxconnect.training.study.yaml_files import GridError


def rows(folder: Path, **changes):
    return rows_of(Grid.read(write_grid(folder, **changes)))


def axes(**changes):
    return {"axes": GRID["axes"] | changes}


def test_the_grid_of_the_documentation_is_one(tmp_path):
    text = (Path(__file__).parents[3] / "docs" / "grids.md").read_text(encoding="utf-8")
    path = tmp_path / "grid.yaml"
    path.write_text(
        text.partition("```yaml\n")[2].partition("```")[0].replace("../../recipes/small_cnn_digits.yaml", "base.yaml")
    )
    (tmp_path / "base.yaml").write_text("trainer: {max_epochs: 4}")
    (tmp_path / "tuned.yaml").write_text("settings: [{when: {pair: bnn++}, set: {trainer.max_epochs: 7}}]")
    found = rows_of(Grid.read(path))
    assert len(found) == 3 * (1 + 2 + 2 - 1)
    assert {str(row.after) for row in found if row.after} == {f"seed {seed} fp float E2E" for seed in range(3)}


def test_rows_are_the_products_of_blocks_less_what_is_excluded(tmp_path):
    found = rows(tmp_path)
    assert {str(row) for row in found} == {
        f"seed {seed} {rest}"
        for seed in (0, 1)
        for rest in ("bnn+ BW E2E", "bnn++ BW E2E", "bnn++ BW FT", "fp float E2E")
    }
    assert found[0].configuration == {
        "trainer": {"max_epochs": 3}, "seed_everything": 0, "model": {"weights": "bnn+", "mode": "BW"},
    }  # fmt: skip


def test_a_row_starts_from_the_one_that_is_alike_in_all_else_and_comes_after_it(tmp_path):
    found = rows(tmp_path)
    for row in found:
        if row.labels["start"] == "FT":
            assert str(row.after) == f"seed {row.labels['seed']} fp float E2E"
            assert found.index(row.after) < found.index(row)
            assert row.origin == {"row": row.after.key, "checkpoint": "start"}
        else:
            assert row.after is None


def test_an_axis_may_be_left_out_of_a_block(tmp_path):
    blocks = [{"pair": "bnn++", "mode": "BW", "start": "FT"}, {"pair": "fp", "mode": "float", "start": None}]
    start = GRID["axes"]["start"] | {"FT": {"after": {"pair": "fp", "mode": "float"}, "checkpoint": "start"}}
    found = rows(tmp_path, **axes(start=start), blocks=blocks)
    assert {str(row.after) for row in found if row.after} == {"seed 0 fp float", "seed 1 fp float"}


def test_tuned_settings_win_over_labels_and_a_block_over_both(tmp_path):
    (tmp_path / "tuned.yaml").write_text("settings: [{when: {pair: bnn++}, set: {trainer.max_epochs: 7, rate: 1e-3}}]")
    blocks = [GRID["blocks"][0] | {"set": {"rate": 5}}, GRID["blocks"][0] | {"seed": [0]}][:1] + GRID["blocks"][1:]
    found = rows(tmp_path, tuned="tuned.yaml", blocks=blocks)
    changed = {row.labels["pair"]: row.configuration for row in found}
    assert changed["bnn++"]["trainer"] == {"max_epochs": 7}
    assert changed["bnn++"]["rate"] == 5
    assert changed["bnn+"]["trainer"] == {"max_epochs": 3}
    assert "rate" not in changed["fp"]


def test_a_label_may_have_what_was_tuned_for_another(tmp_path):
    settings = "[{when: {pair: bnn+}, set: {rate: 1e-3}}, {when: {pair: bnn++, start: FT}, set: {rate: 5}}]"
    (tmp_path / "tuned.yaml").write_text(f"settings: {settings}")
    axes = GRID["axes"] | {"pair": GRID["axes"]["pair"] | {"bnn++": {"tuned_as": {"pair": "bnn+"}}}}
    found = rows(tmp_path, tuned="tuned.yaml", axes=axes)
    rates = {(row.labels["pair"], row.labels["start"]): row.configuration.get("rate") for row in found}
    assert rates == {("fp", "E2E"): None, ("bnn+", "E2E"): 0.001, ("bnn++", "E2E"): 0.001, ("bnn++", "FT"): 5}
    with pytest.raises(GridError, match="unknown axis in tuned_as 'pairs': did you mean 'pair'"):
        rows(tmp_path, axes=GRID["axes"] | {"seed": {"0": {"tuned_as": {"pairs": "bnn+"}}}})


def test_a_base_may_be_a_file(tmp_path):
    (tmp_path / "recipe.yaml").write_text("trainer: {max_epochs: 9}\nrate: 1e-3")
    found = rows(tmp_path, base="recipe.yaml")
    assert found[0].configuration["trainer"] == {"max_epochs": 9}
    assert found[0].configuration["rate"] == 0.001


def test_axes_may_be_a_file(tmp_path):
    (tmp_path / "axes.yaml").write_text(yaml.safe_dump(GRID["axes"], sort_keys=False))
    assert [row.key for row in rows(tmp_path, axes="axes.yaml")] == [row.key for row in rows(tmp_path)]


def test_only_selects(tmp_path):
    grid = Grid.read(write_grid(tmp_path))
    chosen = selected(rows_of(grid), grid, {"pair": ["bnn+", "bnn++"], "seed": ["1"]})
    assert [str(row) for row in chosen] == ["seed 1 bnn+ BW E2E", "seed 1 bnn++ BW E2E", "seed 1 bnn++ BW FT"]
    with pytest.raises(GridError, match=r"unknown label of pair in --only 'bnm\+': did you mean 'bnn\+'"):
        selected(rows_of(grid), grid, {"pair": ["bnm+"]})


def test_the_address_of_a_configuration_stays():
    """Were it to change, every row of every ledger would run again."""
    configuration = {"model": {"weights": "bnn++", "rate": 0.001}, "seed_everything": 0, "ünder": [True, None]}
    assert address(configuration, "a:b", None, "0.1.0+1") == "6dacee73b33bd19f"


def test_an_address_changes_with_all_that_a_result_hangs_on(tmp_path, monkeypatch):
    def keys(**changes):
        return {str(row): row.key for row in rows(tmp_path, **changes)}

    before = keys()
    assert len(set(before.values())) == len(before)
    assert keys() == before
    for changes in ({"base": {"trainer": {"max_epochs": 4}}}, {"run": "fake_rows:measured"}):
        after = keys(**changes)
        assert not set(after.values()) & set(before.values())
    other_fp = keys(**axes(pair=GRID["axes"]["pair"] | {"fp": {"model.weights": "fp", "rate": 2}}))
    changed = {name for name in before if before[name] != other_fp[name]}
    assert changed == {name for name in before if "fp" in name or "FT" in name}
    monkeypatch.setattr(rows_module, "RESULTS", rows_module.RESULTS + 1)
    assert not set(keys().values()) & set(before.values())


def test_a_release_of_the_package_moves_no_row():
    """Ledgers outlive releases: only a change of results may give their rows other addresses."""
    assert proxconnect.__version__ not in rows_module.results_version({"trainer": {"max_epochs": 3}})


@pytest.mark.parametrize(
    ("data", "binary", "is_touched"),
    [
        ({"class_path": "proxconnect.training.data.modules.Cifar10", "init_args": {"flip": True}}, {}, True),
        ({"class_path": "Cifar10", "init_args": {"crop": 4}}, {"weights": "bc"}, True),
        ({"class_path": "ImageNet"}, {}, True),
        ({"class_path": "Cifar10", "init_args": {"crop": 4}}, None, False),
        ({"class_path": "Digits", "init_args": {"flip": False}}, {}, False),
        ({"class_path": "FashionMnist"}, {}, False),
        ({"folder": "of another row function"}, {}, False),
        (None, {}, False),
        ({"class_path": "Cifar10", "init_args": 3}, {}, False),
    ],
)
def test_a_change_of_some_configurations_leaves_the_address_of_others(data, binary, is_touched):
    """Batch norm is re-estimated on augmented pictures since then."""
    version = rows_module.results_version({"data": data, "model": {"binary": binary}})
    assert version.endswith("+1.calibration" if is_touched else "+1")


nested = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=3), max_leaves=8
)
mappings = st.dictionaries(st.sampled_from("abc"), nested, max_size=3)


def leaves(value, path=()):
    """Every path of nested mappings with what stands there."""
    if not isinstance(value, dict):
        return {path: value}
    return {p: v for key, inner in value.items() for p, v in leaves(inner, (*path, key)).items()}


@given(mappings, mappings)
def test_dotted_overrides_are_nested_ones(base, overrides):
    dotted = {".".join(path): value for path, value in leaves(overrides).items()}
    assert leaves(overridden(base, dotted)) == leaves(overridden(base, overrides))
    result = leaves(overridden(base, overrides))
    assert leaves(overrides).items() <= result.items()


def test_another_class_drops_the_arguments_of_the_former():
    base = {"optimizer": {"class_path": "torch.optim.SGD", "init_args": {"momentum": 0.9}}}
    other = overridden(base, {"optimizer.class_path": "torch.optim.Adam", "optimizer.init_args.lr": 0.1})
    assert other == overridden(base, {"optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.1}}})
    assert other == {"optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.1}}}
    same = overridden(base, {"optimizer.init_args.lr": 0.1})
    assert same["optimizer"]["init_args"] == {"momentum": 0.9, "lr": 0.1}
    assert base["optimizer"]["init_args"] == {"momentum": 0.9}


def test_dots_in_inner_keys_are_dots():
    assert overridden({}, {"model.weights": {"*.conv": "bc"}}) == {"model": {"weights": {"*.conv": "bc"}}}


BW = {"pair": "bnn++", "mode": "BW"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axis": {}}, "unknown key of .*grid.yaml 'axis': did you mean 'axes'"),
        ({"axes": {}}, "needs `axes:`"),
        (axes(rate=[1, 2]), r"axes: rate: only `seed` may be a list; .* rate: \{1: "),
        (axes(set={"a": {}}), "cannot be called 'set'"),
        (axes(start={"FT": {"after": {"pair": "fp"}}}), "`after` .* and `checkpoint` .* go together"),
        (axes(mode={}), "axes: mode has no labels"),
        ({"blocks": [{"pear": "fp"}]}, "unknown axis in blocks 'pear': did you mean 'pair'"),
        ({"blocks": [{"pair": "bnn-+"}]}, r"unknown label of pair in blocks 'bnn-\+': did you mean 'bnn\+'"),
        ({"blocks": [{"exclude": [{"mode": "BWA"}]}]}, "unknown label of mode in exclude 'BWA': did you mean 'BW'"),
        ({"blocks": [BW | {"start": "FT"}]}, r"starts after 'fp float E2E', .* no block has such a row \('seed 0 fp"),
        ({"blocks": [BW | {"start": "E2E"}, BW | {"start": "E2E", "set": {"rate": 1}}]}, "two blocks have a row"),
        ({"compare": {"pair": [["bnn++"]]}}, "is no couple of labels"),
        ({"compare": {"pair": [["bnn++", "bnn++"]]}}, "is no couple of labels"),
        ({"compare": {"pair": [3]}}, "is no couple of labels"),
        ({"ranks": {"pair": [["bnn++"]]}}, "is no list of different labels"),
        ({"ranks": {"pair": [["bnn++", "bnn++"]]}}, "is no list of different labels"),
        ({"ranks": {"pear": []}}, "unknown axis in ranks 'pear': did you mean 'pair'"),
        ({"ranks": {"pair": [["bnn++", "bnn"]]}}, "unknown label of pair in ranks 'bnn'"),
        ({"compare": {"pear": []}}, "unknown axis in compare 'pear': did you mean 'pair'"),
        (axes(mean={"a": {}}), "cannot be called 'mean', which blocks or tables have a meaning for"),
        ({"compare": {"pair": [["bnn++", "bnn"]]}}, "unknown label of pair in compare 'bnn'"),
        ({"run": "fake_rows"}, "'fake_rows' is no MODULE:CALLABLE"),
        ({"base": "nowhere.yaml"}, "cannot read .*nowhere.yaml"),
        ({"base": [1]}, "base must be a mapping"),
        (axes(pair={"fp": {"weights": "fp"}, "bnn+": {}, "bnn++": {}}), "are the same configuration"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(tmp_path, changes, message):
    with pytest.raises(GridError, match=message) as error:
        rows(tmp_path, **changes)
    assert "\n" not in str(error.value)


def test_a_row_cannot_start_from_itself(tmp_path):
    start = {"FT": {"after": {"pair": "bnn++", "start": "FT"}, "checkpoint": "start"}}
    with pytest.raises(GridError, match="by `after` it starts from itself"):
        rows(tmp_path, **axes(start=start), blocks=[{"pair": "bnn++", "mode": "BW"}], compare={})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {bnn+: 1, bnn+: 2}", r"'bnn\+' is there twice"),
        ("mode: {on: 1}", "the key True is no text: put it in quotes"),
        (f"a: {datetime.date(2026, 1, 2)}", "is a date: put it in quotes"),
        ("a: .nan", "nan is no finite number"),
        ("- a", "must hold a mapping"),
        ("a: 1\nb: [", "file.yaml, line 2 is no YAML that can be read: expected the node content"),
        ("a: \x07", "is no YAML that can be read: unacceptable character"),
        ("a: !!python/object:os.system {}", "is no YAML that can be read"),
    ],
)
def test_yaml_that_means_something_else_is_refused(tmp_path, text, message):
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(GridError, match=message):
        yaml_files.read(path)
