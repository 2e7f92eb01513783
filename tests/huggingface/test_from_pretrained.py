"""transformers loads float and binary checkpoints, and refuses a mismatch with their configuration."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

import proxconnect as pc
from networks import bert, sentences
from proxconnect.huggingface import ProxConnectConfig
from proxconnect.layers import BinaryLayer

CLASS = transformers.BertForSequenceClassification
KEEP = ["edges", "classifier"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float network, and a binary one after a step, as `save_pretrained` wrote them."""
    root = tmp_path_factory.mktemp("pretrained")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        bert().save_pretrained(root / "float")
        model = CLASS.from_pretrained(root / "float", quantization_config=ProxConnectConfig("bnn++", keep=KEEP))
        optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-2)
        pc.Sharpening(optimizer, model, steps=4)
        model(**sentences()).logits.sum().backward()
        optimizer.step()
        example = sentences()
        torch.save((example, model.eval()(**example).logits, sharpness(model)), root / "expected.pt")
        model.save_pretrained(root / "binary")
    return root


def sharpness(model: nn.Module) -> list[float]:
    return [float(m.weight_quantizer.mu) for m in model.modules() if isinstance(m, BinaryLayer)]


def copied(folders: Path, tensors: str, configuration: str, place: Path) -> Path:
    shutil.copytree(folders / tensors, place)
    shutil.copy(folders / configuration / "config.json", place)
    return place


def test_a_float_checkpoint_is_loaded_before_it_is_made_binary(folders: Path) -> None:
    plain = CLASS.from_pretrained(folders / "float")
    model = CLASS.from_pretrained(folders / "float", quantization_config=ProxConnectConfig("bc", keep=KEEP))
    for name, layer in model.named_modules():
        if isinstance(layer, BinaryLayer):
            assert torch.equal(layer.latent, plain.get_submodule(name).weight)
    assert "classifier" in model.binarization.floats


def test_a_binary_checkpoint_needs_no_argument(folders: Path) -> None:
    example, expected, mus = torch.load(folders / "expected.pt", weights_only=True)
    model, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        folders / "binary", output_loading_info=True
    )
    assert not any(report.values())
    assert sharpness(model) == mus
    assert len(set(mus)) == 1
    assert mus[0] > pc.PAIRS["bnn++"].sharpness.start
    assert torch.equal(model(**example).logits, expected)
    torch.testing.assert_close(pc.pack(model)(**example).logits, expected)


def test_it_trains_on_and_is_saved_again(folders: Path, tmp_path: Path) -> None:
    model = CLASS.from_pretrained(folders / "binary").train()
    before = model.state_dict()["bert.pooler.dense.latent"].clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model(**sentences()).logits.sum().backward()
    optimizer.step()
    assert not torch.equal(model.state_dict()["bert.pooler.dense.latent"], before)
    model.save_pretrained(tmp_path)
    again = CLASS.from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True))


def test_learned_thresholds_come_back(folders: Path, tmp_path: Path) -> None:
    config = ProxConnectConfig("bnn++", {"*query": "bnn", "*.output.dense": "poly"}, keep=KEEP)
    model = CLASS.from_pretrained(folders / "float", quantization_config=config)
    pc.add_thresholds(model.bert.encoder.layer[0])
    shifts = [m.shift for name, m in model.named_modules() if name.endswith("input_shift")]
    assert shifts
    for shift in shifts:
        nn.init.normal_(shift)
    model.save_pretrained(tmp_path / "first")
    again, report = CLASS.from_pretrained(tmp_path / "first", output_loading_info=True)
    assert not any(report.values())
    example = sentences()
    assert torch.equal(again(**example).logits, model(**example).logits)
    again.save_pretrained(tmp_path / "second")
    written = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("first", "second")]
    assert written[0]["quantization_config"] == written[1]["quantization_config"]


def test_what_became_binary_later_is_warned_of(folders: Path, tmp_path: Path) -> None:
    model = CLASS.from_pretrained(folders / "binary")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save_pretrained(tmp_path / "as_it_was")
    pc.binarize_parameter(model.bert.embeddings.LayerNorm, "weight", "bc")
    with pytest.warns(UserWarning, match=r"LayerNorm\.weight_binary.* became binary after the network was loaded"):
        model.save_pretrained(tmp_path / "more")


def test_thresholds_of_what_has_none_are_refused(folders: Path, tmp_path: Path) -> None:
    place = copied(folders, "binary", "binary", tmp_path / "binary")
    content = json.loads((place / "config.json").read_text())
    content["quantization_config"]["thresholds"] = ["bert.pooler.dense"]
    (place / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"thresholds of 'bert\.pooler\.dense', which is no layer with binary inputs"):
        CLASS.from_pretrained(place)
    with pytest.raises(ValueError, match="a list of names of layers, or null; got 'bert'"):
        ProxConnectConfig(thresholds="bert")


def test_accumulators_and_pairs_by_layer_come_back(folders: Path, tmp_path: Path) -> None:
    config = ProxConnectConfig(
        {"*query": "bc", "*key": "poly", "*.intermediate.dense": None, "*.output.dense": "bnn"}, {"*query": "bnn"},
        accumulator=pc.Accumulator(6, "saturate"), scale="tensor", keep=None,
    )  # fmt: skip
    model = CLASS.from_pretrained(folders / "float", quantization_config=config)
    model.save_pretrained(tmp_path)
    again = CLASS.from_pretrained(tmp_path)
    assert [str(m) for m in again.modules() if isinstance(m, BinaryLayer)] == [
        str(m) for m in model.modules() if isinstance(m, BinaryLayer)
    ]
    example = sentences()
    assert torch.equal(again(**example).logits, model(**example).logits)


@pytest.mark.parametrize("scale", ["channel", "learned"])
def test_groups_come_back(folders: Path, tmp_path: Path, scale: Any) -> None:
    config = ProxConnectConfig("bnn++", scale=scale, keep=KEEP, group_size=8)
    model = CLASS.from_pretrained(folders / "float", quantization_config=config)
    model.save_pretrained(tmp_path)
    again = CLASS.from_pretrained(tmp_path)
    assert {m.group_size for m in again.modules() if isinstance(m, BinaryLayer)} == {8}
    example = sentences()
    assert torch.equal(again(**example).logits, model(**example).logits)


def test_a_float_checkpoint_that_is_said_to_be_binary_is_refused(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"binarize|latents"):
        CLASS.from_pretrained(copied(folders, "float", "binary", tmp_path / "wrong"))


def test_a_binary_checkpoint_that_is_said_to_be_float_is_refused(folders: Path, tmp_path: Path) -> None:
    wrong = copied(folders, "binary", "float", tmp_path / "wrong")
    with pytest.raises(ValueError, match=r"no weights for bert\.encoder.*config\.json must have"):
        CLASS.from_pretrained(wrong, quantization_config=ProxConnectConfig("bnn++"))


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="names of pairs"):
        ProxConnectConfig(pc.PAIRS["bc"].at(1.0))
    with pytest.raises(ValueError, match="knows no later"):
        ProxConnectConfig(later=1)
    assert json.loads(ProxConnectConfig(accumulator=pc.Accumulator(8)).to_json_string())["accumulator"]["bits"] == 8
