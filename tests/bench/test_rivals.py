"""Other engines: absent, failing, and beside torch."""

from pathlib import Path

import pytest
import torch
from torch import nn

from proxconnect.bench import Options, measure
from proxconnect.bench.report import as_json
from proxconnect.bench.rivals import RIVALS, Rival, answers


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))


def run(tmp_path: Path, example=None, **options):
    example = torch.randn(2, 4) if example is None else example
    said: list[str] = []
    return measure("net", net(), example, Options(rounds=2, batches=(1, 4), **options), tmp_path, said.append)


def engine(prepare) -> Rival:
    return Rival("Engine", ("torch",), prepare)


def test_an_engine_stands_beside_with_its_answers(tmp_path, monkeypatch):
    batches = []

    def prepare(model, inputs, threads, folder):
        batches.append((len(inputs[0]), threads))
        return lambda: [model(*inputs).numpy() + 0.5]

    monkeypatch.setattr("proxconnect.bench.rivals.RIVALS", (engine(prepare),))
    bench = run(tmp_path, threads=1)
    assert [contender.name for contender in bench.contenders] == ["float", "packed", "Engine"]
    assert bench.contender("Engine").difference == pytest.approx(0.5)
    assert batches == [(2, 1), (1, 1), (4, 1)]
    assert set(bench.contender("Engine").throughput) == {1, 4}


def test_an_engine_that_fails_is_a_line(tmp_path, monkeypatch):
    def prepare(model, inputs, threads, folder):
        raise RuntimeError("no such\noperator")

    monkeypatch.setattr("proxconnect.bench.rivals.RIVALS", (engine(prepare),))
    bench = run(tmp_path)
    assert bench.absent == {"Engine": "RuntimeError: no such operator"}
    assert [contender.name for contender in bench.contenders] == ["float", "packed"]


def test_an_engine_that_is_not_installed_is_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr("proxconnect.bench.rivals.RIVALS", (Rival("Engine", ("surely_absent", "torch"), None),))
    assert run(tmp_path).absent == {"Engine": "pip install surely_absent torch"}


def test_inputs_by_keyword_are_for_torch_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("proxconnect.bench.rivals.RIVALS", (engine(None),))
    bench = run(tmp_path, {"input": torch.randn(2, 4)})
    assert "positional" in bench.absent["Engine"]
    assert as_json(bench)["input_shapes"] == [[2, 4]]


def test_answers_that_are_not_finite_are_null(tmp_path, monkeypatch):
    monkeypatch.setattr("proxconnect.bench.rivals.RIVALS", ())
    found = as_json(run(tmp_path, torch.full((2, 4), torch.inf)))
    assert found["largest_answer"] is None
    assert found["networks"][1]["largest_difference"] is None


@pytest.mark.parametrize("rival", RIVALS, ids=lambda rival: rival.name)
def test_real_engines_answer_as_torch_does(tmp_path, rival):
    if rival.absence:
        pytest.skip(rival.absence)
    model, inputs = net().eval().requires_grad_(False), (torch.randn(2, 4),)
    (answer,) = answers(rival.prepare(model, inputs, 1, tmp_path))
    assert torch.allclose(answer, model(*inputs), atol=1e-5)
