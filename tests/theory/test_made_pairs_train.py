"""A surrogate of one's own, corrected, goes all the way: the demo's loop, sharpening, a packed file, pictures."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import proxconnect as pc
from proxconnect.cli.demo.experiment import ARCHITECTURES, RECIPES, Run, accuracy, answers, train
from proxconnect.cli.demo.shipment import ship
from proxconnect.inspection.plots import plot_catalogue, plot_pair
from proxconnect.layers import BinaryLayer
from proxconnect.pairs import PAIRS, SURROGATES, Heuristic, Pair, prox
from proxconnect.theory import average, compose, correct, synthesize
from proxconnect.training import data


def tent(x: Tensor) -> Tensor:
    """A user's surrogate: a flat top and straight flanks, of area 2."""
    return (1.5 - x.abs()).clamp(0, 1)


MINE = correct(tent, "tent+")
RECIPE = replace(RECIPES["digits"], epochs=3)

Trained = tuple[torch.nn.Module, dict[str, Any]]
"""A network and what was measured of it."""


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.load("digits")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setitem(PAIRS, MINE.name, MINE)
    return Run(MINE.name, "BW", "E2E", 0)


@pytest.fixture(scope="module")
def trained(digits: data.Dataset) -> Trained:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PAIRS, MINE.name, MINE)
        return train(Run(MINE.name, "BW", "E2E", 0), RECIPE, digits)


def quantizers(model: torch.nn.Module) -> list[pc.Quantizer]:
    return [m.weight_quantizer for m in model.modules() if isinstance(m, BinaryLayer)]


def test_it_learns_in_the_loop_of_the_demo(trained: Trained) -> None:
    _, measured = trained
    assert measured["accuracy"]["reestimated"] > 0.9  # chance is 0.1
    assert measured["curve"][-1]["loss"] < 0.5 * measured["curve"][0]["loss"]


def test_its_sharpness_went_all_the_way(trained: Trained, run: Run) -> None:
    found = quantizers(trained[0])
    assert len(found) > 1
    assert all(q.pair == MINE and float(q.mu) == 30.0 for q in found)


def test_the_packed_file_answers_alike(trained: Trained, run: Run, digits: data.Dataset, tmp_path: Path) -> None:
    """Here, loaded into a float network that never saw the pair, and in a process of its own."""
    (model, measured), path = trained, tmp_path / "mine.safetensors"
    here = answers(model, digits.test_images)
    packed = pc.pack(model)
    torch.testing.assert_close(answers(packed, digits.test_images), here)
    pc.save(packed, path)
    loaded = pc.load(path, ARCHITECTURES["digits"]())
    assert torch.equal(answers(loaded, digits.test_images), answers(packed, digits.test_images))
    assert accuracy(loaded, digits.test_images, digits.test_labels) == measured["accuracy"]["reestimated"]
    assert ship(run, model, digits, None, path).is_same


def test_a_checkpoint_resumes(trained: Trained, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = pc.binarize(ARCHITECTURES["digits"](), weights=MINE)
    torch.save(trained[0].state_dict(), tmp_path / "state.pt")
    model.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert all(float(q.mu) == 30.0 for q in quantizers(model))


def test_a_model_with_it_is_pickled_whole(tmp_path: Path) -> None:
    model = pc.binarize(ARCHITECTURES["digits"](), weights=MINE).eval()
    torch.save(model, tmp_path / "model.pt")
    again = torch.load(tmp_path / "model.pt", weights_only=False)
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(again(x), model(x))
    assert quantizers(again)[0].pair == MINE


OTHERS: dict[str, Pair] = {
    "synthesised": synthesize(torch.tanh, prox.proxconnect, "tanh∘pc"),
    "composed": compose(SURROGATES["logistic"].backward_map.owner, MINE),  # type: ignore[attr-defined]  # a MethodMap
    "averaged": Pair("mean", prox=average([prox.proxconnect, prox.tanh])),
    "mended": correct(SURROGATES["lsnn"], normalise=True),
}


@pytest.mark.parametrize("pair", OTHERS.values(), ids=OTHERS)
def test_what_else_is_made_learns_too(pair: Pair, digits: data.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PAIRS, pair.name, pair)
    model, measured = train(Run(pair.name, "BW", "E2E", 0), replace(RECIPE, epochs=1), digits)
    assert measured["accuracy"]["reestimated"] > 0.5
    images = digits.test_images[:50]
    torch.testing.assert_close(answers(pc.pack(model), images), answers(model, images))


def test_activations_take_it() -> None:
    model = pc.binarize(ARCHITECTURES["digits"](), weights=MINE, activations=MINE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for part in ("weights", "activations"):
        pc.Sharpening(optimizer, model, steps=3, part=part)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 1, 8, 8)).square().mean().backward()
        optimizer.step()
    assert {float(q.mu) for q in model.modules() if isinstance(q, pc.Quantizer)} == {30.0}


def test_a_rule_that_overwrites_by_its_prox_takes_it() -> None:
    pair = OTHERS["averaged"]
    layer = pc.BinaryLinear(4, 3, weights=pair.at(2.0), scale=None)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
    pc.proxquant(optimizer, layer)
    latent = layer.latent.detach().clone()
    layer(torch.randn(2, 4)).sum().backward()
    optimizer.step()
    assert torch.equal(layer.latent, pair.prox(latent, 2.0))
    assert not torch.equal(layer.latent, latent)


def test_pictures_draw_it() -> None:
    figure = plot_pair(MINE, [0.5, 4.0])
    forward, backward = figure.axes
    x, y = forward.lines[1].get_data()
    assert y == pytest.approx(MINE.forward(torch.as_tensor(x), 4.0).numpy())
    assert backward.lines[0].get_ydata().max() == pytest.approx(0.5)  # type: ignore[union-attr]  # an array
    assert len(plot_catalogue([MINE, *OTHERS.values(), "bnn"]).subfigs) >= 6


def test_the_correction_of_a_heuristic_is_no_heuristic() -> None:
    mine = Heuristic("tent", prox.sign, lambda x, mu: mu * tent(mu * x), MINE.sharpness)
    pair = correct(mine)
    x = torch.linspace(-3, 3, 61)
    assert isinstance(pair, Pair)
    assert torch.equal(pair.forward(x, 2.0), MINE.forward(x, 2.0))
