"""Where time goes, module by module."""

import time

import pytest
import torch
from torch import fx, nn

from proxconnect.bench.profile import by_kind, profile, profile_graph


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


def test_nodes_of_a_graph_are_told_by_what_they_call():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flat = nn.Flatten()

        def forward(self, x):
            return torch.relu(self.flat(x)).neg() + 1

    parts = profile_graph(fx.symbolic_trace(Net()), (torch.zeros(1, 2),), rounds=2)
    assert [part.kind for part in parts] == ["Flatten", "relu", "neg", "add"]
    assert [part.name for part in parts] == ["flat", "relu", "neg", "add"]
    assert all(part.seconds.low > 0 for part in parts)


def test_kinds_are_added_up():
    kinds = by_kind(profile(Sleeper(0.0, nn.ReLU(), Sleeper(0.01), nn.ReLU()), torch.zeros(1), rounds=1))
    assert list(kinds) == ["Sleeper", "ReLU"]


def test_no_hook_stays():
    model = nn.Sequential(nn.ReLU(), nn.Flatten(5))
    with pytest.raises(IndexError):
        profile(model, torch.zeros(1), rounds=1)
    profile(model[0], torch.zeros(1), rounds=1)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
