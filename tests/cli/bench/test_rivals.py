"""Other engines: absent, failing, and beside torch."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from proxconnect import binarize
from proxconnect.cli.answer import plain
from proxconnect.cli.bench import Options, measure
from proxconnect.cli.bench.benchmark import Contest
from proxconnect.cli.bench.rivals import RIVALS, CannotRunError, Rival, Task
from proxconnect.training.models.bireal import KEEP, BiRealNet


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    model = BiRealNet((1, 1), width=16, classes=5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    return model


def task(model: nn.Module, inputs, folder: Path, activations=None, keep=None) -> Task:
    model.eval().requires_grad_(False)
    return Task(model, binarize(copy.deepcopy(model), "bnn++", activations, keep=keep).eval(), inputs, 1, folder)


def rival(name: str) -> Rival:
    (found,) = (rival for rival in RIVALS if rival.name == name)
    if found.absence:
        pytest.skip(found.absence)
    return found


def run(tmp_path: Path, example=None, **options):
    example = torch.randn(2, 4) if example is None else example
    said: list[str] = []
    return measure("net", net(), example, Options(rounds=2, batches=(1, 4), **options), tmp_path, said.append)


def engine(prepare) -> Rival:
    return Rival("Engine", ("torch",), prepare)


def test_an_engine_stands_beside_with_its_answers(tmp_path, monkeypatch):
    batches = []

    def prepare(task):
        batches.append((len(task.inputs[0]), task.threads))
        return lambda: [task.model(*task.inputs).numpy() + 0.5]

    monkeypatch.setattr("proxconnect.cli.bench.rivals.RIVALS", (engine(prepare),))
    bench = run(tmp_path, threads=1)
    assert [network["name"] for network in bench["networks"]] == ["float", "packed", "Engine"]
    assert bench["networks"][2]["largest_difference"] == pytest.approx(0.5)
    assert batches == [(2, 1), (1, 1), (4, 1)]
    assert set(bench["networks"][2]["throughput"]) == {1, 4}


def test_an_engine_that_fails_is_a_line(tmp_path, monkeypatch):
    def prepare(task):
        raise RuntimeError("no such\noperator")

    monkeypatch.setattr("proxconnect.cli.bench.rivals.RIVALS", (engine(prepare),))
    bench = run(tmp_path)
    assert bench["absent"] == {"Engine": "RuntimeError: no such operator"}
    assert [network["name"] for network in bench["networks"]] == ["float", "packed"]


def test_an_engine_that_is_not_installed_is_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr("proxconnect.cli.bench.rivals.RIVALS", (Rival("Engine", ("surely_absent", "torch"), None),))
    assert run(tmp_path)["absent"] == {"Engine": "not installed; run: pip install surely_absent torch"}


def test_inputs_by_keyword_are_for_torch_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("proxconnect.cli.bench.rivals.RIVALS", (engine(None),))
    bench = run(tmp_path, {"input": torch.randn(2, 4)})
    assert "positional" in bench["absent"]["Engine"]
    assert plain(bench)["input_shapes"] == [[2, 4]]


def test_answers_that_are_not_finite_are_null(tmp_path, monkeypatch):
    monkeypatch.setattr("proxconnect.cli.bench.rivals.RIVALS", ())
    found = plain(run(tmp_path, torch.full((2, 4), torch.inf)))
    assert found["largest_answer"] is None
    assert found["networks"][1]["largest_difference"] is None


def test_an_engine_that_takes_other_networks_says_which(tmp_path, monkeypatch):
    def prepare(task):
        raise CannotRunError("it is for others")

    monkeypatch.setattr("proxconnect.cli.bench.rivals.RIVALS", (engine(prepare),))
    assert run(tmp_path)["absent"] == {"Engine": "it is for others"}


@pytest.mark.covering(strength=1)
@pytest.mark.parametrize("name", [rival.name for rival in RIVALS if rival.runs == "float"])
@pytest.mark.parametrize(
    ("build", "shape", "is_convolutional", "has_attention"),
    [
        (net, (2, 4), False, False),
        (convolutional, (2, 3, 32, 32), True, False),
        (lambda: nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), (2, 16, 32), False, True),
    ],
)
def test_real_engines_answer_as_torch_does(tmp_path, name, build, shape, is_convolutional, has_attention):
    found = rival(name)
    model = build()
    given = task(model, (torch.randn(shape),), tmp_path)
    assert (given.is_convolutional, given.has_attention) == (is_convolutional, has_attention)
    (answer,) = map(torch.as_tensor, found.prepare(given)())
    expected = model(*given.inputs)
    assert (answer - expected).abs().max() <= (0.1 if "int8" in name else 1e-5) * expected.abs().max()


@pytest.mark.parametrize(("name", "error"), [("OpenVINO binary", 1e-5), ("OpenVINO binary+int8", 0.2)])
def test_binary_convolutions_of_openvino_answer_as_ours_do(tmp_path, name, error):
    found = rival(name)
    given = task(convolutional(), (torch.randn(2, 3, 32, 32),), tmp_path, "poly", KEEP)
    (answer,) = map(torch.as_tensor, found.prepare(given)())
    expected = given.binary(*given.inputs)
    assert (answer - expected).abs().max() <= error * expected.abs().max()


@pytest.mark.parametrize(("activations", "keep"), [(None, KEEP), ("poly", None)])
def test_binary_convolutions_of_openvino_are_for_binary_inputs_of_convolutions(tmp_path, activations, keep):
    found = rival("OpenVINO binary")
    given = task(convolutional(), (torch.randn(2, 3, 32, 32),), tmp_path, activations, keep)
    with pytest.raises(CannotRunError, match="mode BWA"):
        found.prepare(given)


def test_the_size_of_a_form_is_that_of_the_file_that_it_reads(tmp_path):
    for name, size in {
        "float.pt": 5,
        "packed.safetensors": 1,
        "float.onnx": 6,
        "static.onnx": 2,
        "dynamic.onnx": 3,
    }.items():
        (tmp_path / name).write_bytes(bytes(size))
    contest = Contest("a network", nn.Identity(), nn.Identity(), {}, {}, 1, 1, tmp_path, print)
    sizes = contest.files()
    assert (sizes["float"], sizes["packed"], sizes["ONNX Runtime"], sizes["ONNX Runtime int8"]) == (5, 1, 6, 3)
    assert sizes["OpenVINO"] is None
    (tmp_path / "dynamic.onnx").unlink()
    assert contest.files()["ONNX Runtime int8"] == 2
