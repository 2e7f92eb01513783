"""Steps warn of learned scales and thresholds that were made after the optimizer, and of nothing else."""

import warnings
from functools import partial

import pytest
import torch
from torch import nn

import proxconnect as pc


def floats() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))


def step(model: nn.Module, *optimizers: torch.optim.Optimizer, steps: int = 5) -> None:
    for _ in range(steps):
        model(torch.randn(4, 4)).square().sum().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def thresholds_late(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(pc.binarize(model, activations="poly").parameters(), lr=0.01)
    pc.add_thresholds(model)
    return optimizer


def scales_late(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    pc.binarize(model, scale="learned")
    return optimizer


def parameter_late(model: nn.Module) -> torch.optim.Optimizer:
    model[1] = nn.Sequential(nn.Bilinear(8, 8, 8))
    model[1].forward = lambda x: model[1][0](x, x)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    pc.binarize_parameter(model[1][0], "weight", scale="learned")
    return optimizer


@pytest.mark.parametrize(
    ("late", "what"),
    [
        (thresholds_late, "latents of 1, but not their thresholds"),
        (scales_late, "latents of 1, but not their learned scales"),
        (parameter_late, "latents of weight_binary, but not their learned scales"),
    ],
)
def test_what_is_made_after_the_optimizer_is_named_once(late, what):
    optimizer = late(model := floats())
    with pytest.warns(UserWarning, match=what) as caught:
        step(model, optimizer, steps=8)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_thresholds_that_come_while_training_are_named():
    optimizer = torch.optim.SGD(pc.binarize(model := floats(), activations="poly", scale="learned").parameters())
    step(model, optimizer)
    pc.add_thresholds(model)
    with pytest.warns(UserWarning, match="of 1, but not their thresholds"):
        step(model, optimizer)


def test_what_an_optimizer_holds_or_nothing_trains_is_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        def learned() -> nn.Module:
            return pc.add_thresholds(pc.binarize(floats(), weights="bc", activations="poly", scale="learned"))

        def bop(model: nn.Module) -> torch.optim.Optimizer:
            return pc.Bop(model.parameters(), partial(torch.optim.Adam, lr=1e-3), gamma=1e-3)

        step(model := learned(), torch.optim.Adam(model.parameters()))
        step(model := learned(), bop(model))
        model = learned()
        latents = [p for name, p in model.named_parameters() if name.endswith("latent")]
        others = [p for name, p in model.named_parameters() if not name.endswith("latent")]
        pc.Sharpening(first := torch.optim.SGD(latents, lr=0.1), model, steps=5)
        step(model, first, torch.optim.SGD(others, lr=0.1))
        optimizer = thresholds_late(model := floats())
        step(model, optimizer, steps=1)
        model[1].input_shift.requires_grad_(False)
        step(model, optimizer)
