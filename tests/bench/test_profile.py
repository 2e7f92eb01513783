"""Where time goes, module by module."""

import time

import pytest
import torch
from torch import nn

from proxconnect.bench.profile import profile


class Sleeper(nn.Module):
    """Sleeps, after what is inside it."""

    def __init__(self, seconds: float, *inside: nn.Module) -> None:
        super().__init__()
        self.seconds = seconds
        self.inside = nn.ModuleList(inside)

    def forward(self, x):
        for module in self.inside:
            x = module(x)
        time.sleep(self.seconds)
        return x


def test_time_is_that_of_the_innermost_module():
    twice = Sleeper(0.01)
    model = Sleeper(0.03, Sleeper(0.0, twice), twice, Sleeper(0.0))
    parts = {part.name: part for part in profile(model, torch.zeros(1), rounds=3)}
    assert list(parts) == ["", "inside.0", "inside.0.inside.0", "inside.2"]
    assert [part.calls for part in parts.values()] == [1, 1, 2, 1]
    assert parts[""].seconds.median >= 0.03
    assert parts["inside.0.inside.0"].seconds.median >= 0.02
    assert parts["inside.2"].seconds.median < 0.02 > parts["inside.0"].seconds.median
    assert parts[""].kind == "Sleeper"


def test_no_hook_stays():
    model = nn.Sequential(nn.ReLU(), nn.Flatten(5))
    with pytest.raises(IndexError):
        profile(model, torch.zeros(1), rounds=1)
    profile(model[0], torch.zeros(1), rounds=1)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
