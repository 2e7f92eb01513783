"""The clamp of latents after each step."""

import pytest
import torch
from torch import nn

from proxconnect.layers import BinaryLinear
from proxconnect.optim.latents import clip_latents


def test_latents_are_clamped_after_each_step_and_nothing_else_is():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), BinaryLinear(4, 4, weights="bc"))
    optimizer = torch.optim.SGD(model.parameters(), lr=5.0)
    handle = clip_latents(optimizer, model, bound=0.3)
    twin = [p.detach().clone() for p in model.parameters()]

    model(torch.randn(8, 4)).square().sum().backward()
    unclamped = [p - 5.0 * q.grad for p, q in zip(twin, model.parameters(), strict=True)]
    optimizer.step()
    for (name, parameter), free in zip(model.named_parameters(), unclamped, strict=True):
        expected = free.clamp(-0.3, 0.3) if name.endswith("latent") else free
        torch.testing.assert_close(parameter.detach(), expected)
        assert free.abs().max() > 0.3

    handle.remove()
    model(torch.randn(8, 4)).square().sum().backward()
    optimizer.step()
    assert model[1].latent.abs().max() > 0.3


@pytest.mark.parametrize("bound", [0.0, -1.0, float("nan")])
def test_bound_must_be_positive(bound):
    model = BinaryLinear(2, 2)
    with pytest.raises(ValueError, match="bound must be positive"):
        clip_latents(torch.optim.SGD(model.parameters(), lr=1.0), model, bound)
