"""Where time goes, module by module."""

import time

import pytest
import torch
from torch import nn

from proxconnect import binarize, kernels, pack
from proxconnect.bench.profile import binary_share, by_kind, profile
from proxconnect.training.models.bireal import KEEP, BiRealNet


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


@pytest.mark.skipif(not kernels.is_built(), reason="graphs are fused where the kernels are built")
def test_a_fused_graph_is_told_operation_by_operation():
    model = BiRealNet((2, 1), width=64, classes=3).eval()
    small, example = pack(binarize(model, "bnn++", "poly", keep=KEEP).eval()), torch.randn(1, 3, 64, 64)
    expected = small(example)
    parts = profile(small, example, rounds=2)
    assert [part.is_binary for part in parts if part.kind == "FusedConv"] == [True] * 3
    assert {part.name: part.kind for part in parts}.items() >= {"stem.0": "Conv2d", "head": "Linear"}.items()
    assert 0 < binary_share(parts) < 1
    assert torch.equal(small(example), expected)


def test_the_share_is_that_of_packed_layers():
    model = nn.Sequential(Sleeper(0.03), pack(binarize(nn.Linear(8, 8), "bc", keep=None)), nn.ReLU())
    assert 0 < binary_share(profile(model, torch.zeros(1, 8), rounds=1)) < 0.5
    assert binary_share([]) == 0


def test_kinds_are_added_up():
    kinds = by_kind(profile(Sleeper(0.0, nn.ReLU(), Sleeper(0.01), nn.ReLU()), torch.zeros(1), rounds=1))
    assert list(kinds) == ["Sleeper", "ReLU"]


def test_no_hook_stays():
    model = nn.Sequential(nn.ReLU(), nn.Flatten(5))
    with pytest.raises(IndexError):
        profile(model, torch.zeros(1), rounds=1)
    profile(model[0], torch.zeros(1), rounds=1)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
