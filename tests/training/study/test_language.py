"""The study of language models: its text, rows that resume and learn from each other, and what a weight costs."""

from dataclasses import replace
from importlib import import_module
from itertools import islice
from pathlib import Path

import pytest
import torch
from test_ledger import entry
from torch.nn.functional import cross_entropy

from proxconnect.layers import BinaryEmbedding, BinaryLayer
from proxconnect.training.study.grid import Grid
from proxconnect.training.study.grid_rows import rows_of

pytest.importorskip("gguf")
pytest.importorskip("tokenizers")
FOLDER = Path(__file__).parents[3] / "studies" / "language"

pytestmark = pytest.mark.usefixtures("in_the_repository")


@pytest.fixture
def text(monkeypatch, tmp_path):
    """The module of text, whose sources are small ones."""
    module = import_module("studies.language.text")
    sources = {"words": lambda: [f"a word, {number} times" for number in range(40)], "lines": lambda: ["a line"] * 20}
    monkeypatch.setattr(module, "SOURCES", sources)
    return module


@pytest.fixture
def tiny(monkeypatch, text, tmp_path):
    """The module of rows, for networks of one layer, and a configuration of 2 epochs of 3 steps by mode and start."""
    networks = import_module("studies.language.networks")
    monkeypatch.setattr(networks, "LAYERS", 1)
    monkeypatch.setattr(networks, "INNER", {128: 128})
    text.write(tmp_path / "text")
    data = {"folder": str(tmp_path / "text"), "batch_size": 2, "length": 8, "first": 0, "each": 1}

    def configuration(teacher=None, **labels):
        row = next(r for r in rows_of(Grid.read(FOLDER / "core.yaml")) if labels.items() <= r.labels.items())
        small = {"data": data, "width": 128, "epochs": 2, "epoch_steps": 3, "teacher": teacher and str(teacher)}
        return row.configuration | small

    return import_module("studies.language.row"), configuration


def test_no_document_is_both_trained_on_and_held_out(text, tmp_path):
    parts = text.split()
    assert len(parts["held_out"]) == 40 // 20 + 20 // 20
    assert sorted(parts["train"] + parts["held_out"]) == sorted(d for read in text.SOURCES.values() for d in read())
    assert {d for d in parts["train"] if d != "a line"}.isdisjoint(parts["held_out"])
    text.write(tmp_path)
    tokenizer = import_module("tokenizers").Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    read = text.windows(tmp_path, "held_out", 1).flatten().tolist()
    assert tokenizer.decode(read, skip_special_tokens=False).split(text.END)[:-1] == parts["held_out"]


def test_text_that_is_missing_is_named(text, monkeypatch, tmp_path):
    monkeypatch.setitem(text.SOURCES, "Debian's package python3-doc", lambda: [])
    with pytest.raises(SystemExit, match="no text of Debian's package python3-doc: install it first"):
        text.write(tmp_path)
    with pytest.raises(SystemExit, match=r"run python -m studies\.language\.text"):
        text.windows(tmp_path, "train", 8)


def test_a_pass_has_each_window_once(text):
    windows = torch.arange(14).view(7, 2)
    found = torch.cat([*islice(text.batches(windows, 2, seed=0), 6)])
    for one in (found[:6], found[6:]):
        assert len({tuple(window) for window in one.tolist()}) == 6
        assert all(second == first + 1 for first, second in one.tolist())
    assert not torch.equal(found[:6], found[6:])


def test_trials_and_core_are_measured_on_different_windows():
    (trials,), (core,) = (
        {(row.configuration["data"]["first"], row.configuration["data"]["each"]) for row in rows_of(Grid.read(path))}
        for path in (FOLDER / "tuning" / "trials.yaml", FOLDER / "core.yaml")
    )
    assert trials[1] == core[1]
    assert trials[0] % core[1] != core[0]


def test_rows_learn_from_text_or_from_the_float_network_and_measure_their_files(tiny, tmp_path):
    row, configuration = tiny
    before = None
    for name, labels in {
        "float": {"mode": "float"}, "channel": {"scales": "channel"}, "all binary": {"scales": "all binary"},
        "taught": {"learns from": "the float network"},
    }.items():  # fmt: skip
        folder = tmp_path / name
        folder.mkdir()
        taught = tmp_path / "float" / "last.ckpt" if name == "taught" else None
        measured = row.run_row(configuration(taught, **labels), folder, lambda progress: None)
        assert [one["epoch"] for one in measured["curve"]] == [1.0, 2.0]
        assert measured["curve"][-1]["loss"] == measured["loss"]["hard"]
        if name == "float":
            assert list(measured["bytes"]) == ["F16", "Q8_0", "Q4_0"]
            assert sorted(measured["bytes"].values()) == list(measured["bytes"].values())[::-1]
            assert measured["loss"]["F16"] == pytest.approx(measured["loss"]["hard"], abs=1e-4)
            assert measured["packed_bytes"] is None
        else:
            assert measured["loss"]["packed"] == pytest.approx(measured["loss"]["hard"], abs=0.01)
            assert measured["bytes"]["packed"] == (folder / "network.safetensors").stat().st_size
            network = torch.load(folder / "last.ckpt", weights_only=True)["network"]
            assert ("model.embed_tokens.latent" in network) == (name == "all binary")
            before = before or network
    assert not torch.equal(network["model.layers.0.mlp.up_proj.latent"], before["model.layers.0.mlp.up_proj.latent"])


def test_all_matrices_of_a_network_can_be_binary(tiny):
    _, configuration = tiny
    network = import_module("studies.language.networks").build(128, configuration(scales="all binary")["binary"])
    layers = [module for module in network.modules() if isinstance(module, BinaryLayer)]
    assert len(layers) == 9
    assert sum(isinstance(layer, BinaryEmbedding) for layer in layers) == 1


def test_a_loss_is_the_mean_of_what_the_next_token_costs(tiny):
    row, _ = tiny
    logits, tokens = torch.randn(2, 5, 7), torch.randint(7, (2, 5))
    by_hand = [cross_entropy(logits[i, t], tokens[i, t + 1]) for i in range(2) for t in range(4)]
    torch.testing.assert_close(row.next_token_loss(logits, tokens), torch.stack(by_hand).mean())


def test_a_row_that_was_stopped_resumes_to_the_bit(tiny, tmp_path):
    row, configuration = tiny
    settings = configuration(scales="channel", pair="bnn++")
    whole = row.Run(settings, tmp_path / "whole", lambda progress: None)
    (tmp_path / "whole").mkdir()
    whole.train()

    def stop(progress):
        if progress[0] > 4:
            raise KeyboardInterrupt

    (tmp_path / "parts").mkdir()
    with pytest.raises(KeyboardInterrupt):
        row.Run(settings, tmp_path / "parts", stop).train()
    resumed = row.Run(settings, tmp_path / "parts", lambda progress: None)
    assert len(resumed.curve) == 1
    resumed.train()
    assert resumed.curve == whole.curve
    theirs = whole.network.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in resumed.network.state_dict().items())


def of(weights, losses, size=0.0, seed=0, **labels):
    """Return an entry with these losses by file, each of `size` bytes."""
    found = entry(seed, **{"learns from": "text"}, **labels)
    return replace(found, measured={"weights": weights, "loss": losses, "bytes": dict.fromkeys(losses, size)})


def test_what_binary_weights_cost_in_weights():
    sizes = import_module("studies.language.sizes")
    floats = [sizes.Point(1e6, 0, 4.0), sizes.Point(4e6, 0, 3.0), sizes.Point(16e6, 0, 2.5)]
    assert sizes.weights_for(3.5, floats) == pytest.approx(2e6)
    assert sizes.weights_for(2.5, floats) == pytest.approx(16e6)
    assert sizes.weights_for(4.1, floats) is None
    assert sizes.weights_for(2.4, floats) is None


def test_the_table_has_a_line_for_each_file_and_size(tmp_path, monkeypatch):
    sizes = import_module("studies.language.sizes")
    fp = {"pair": "fp", "mode": "float"}
    entries = [
        of(4e6, {"F16": 3.0, "hard": 3.0}, 8e6, **fp), of(1e6, {"F16": 4.0}, 2e6, **fp),
        of(4e6, {"packed": 3.4}, 1e6, pair="bc", scales="channel"),
        of(4e6, {"packed": 3.6}, 1e6, seed=1, pair="bc", scales="channel"),
        replace(of(4e6, {"packed": 1.0}, pair="bc", scales="channel"), labels={"learns from": "the float network"}),
    ]  # fmt: skip
    entries[0].measured["bytes"].pop("hard")
    found = sizes.points(entries)
    assert sizes.table(found).splitlines()[2:] == [
        "| float, 16 bits | 1.0 M | 2.00 | 4.000 |  |",
        "| float, 16 bits | 4.0 M | 8.00 | 3.000 |  |",
        "| bc, embedding in 8 bits | 4.0 M | 1.00 | 3.500 | 2.0 |",
    ]
    (axes,) = sizes.draw(found).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(found)
    assert axes.lines[0].get_xdata().tolist() == [2, 8]
