"""Time by modules."""

import sys

import pytest
import torch
import transformers
from torch import nn

from proxconnect import binarize, kernels, pack
from proxconnect.cli.bench.profile import binary_share, by_kind, profile
from proxconnect.training.models.bireal import KEEP, BiRealNet


class Clock:
    """A clock that modules move."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """The clock that the profile reads."""
    moved = Clock()
    monkeypatch.setattr(sys.modules[profile.__module__], "perf_counter", moved)
    return moved


class Sleeper(nn.Module):
    """Move a clock by some seconds, half of them before and half after the modules inside."""

    def __init__(self, clock: Clock, seconds: float, *inside: nn.Module) -> None:
        super().__init__()
        self.clock, self.seconds = clock, seconds
        self.inside = nn.ModuleList(inside)

    def forward(self, x):
        self.clock.now += self.seconds / 2
        for module in self.inside:
            x = module(x)
        self.clock.now += self.seconds / 2
        return x


def test_time_is_that_of_the_innermost_module(clock):
    twice = Sleeper(clock, 1.0)
    model = Sleeper(clock, 3.0, Sleeper(clock, 0.5, twice), twice, Sleeper(clock, 0.0))
    parts = profile(model, torch.zeros(1), rounds=3)
    assert [(part.name, part.calls) for part in parts] == [
        ("", 1), ("inside.0", 1), ("inside.0.inside.0", 2), ("inside.2", 1),
    ]  # fmt: skip
    assert [(part.seconds.low, part.seconds.high) for part in parts] == [(3.0, 3.0), (0.5, 0.5), (2.0, 2.0), (0.0, 0.0)]
    assert {part.kind for part in parts} == {"Sleeper"}
    assert not any(part.is_binary for part in parts)


def test_rounds_that_differ_are_a_spread(clock):
    class Slower(Sleeper):
        def forward(self, x):
            self.seconds += 1.0
            return super().forward(x)

    (part,) = profile(Slower(clock, 0.0), torch.zeros(1), rounds=3)  # the first two calls are not timed
    assert (part.seconds.low, part.seconds.median, part.seconds.high) == (3.5, 4.0, 4.5)


@pytest.mark.skipif(not kernels.is_built(), reason="graphs are fused where the kernels are built")
def test_a_fused_graph_is_told_operation_by_operation():
    model = BiRealNet((2, 1), width=64, classes=3).eval()
    small, example = pack(binarize(model, "bnn++", "poly", keep=KEEP).eval()), torch.randn(1, 3, 64, 64)
    expected = small(example)
    parts = profile(small, example, rounds=2)
    assert [part.is_binary for part in parts if part.kind == "BinaryProduct"] == [True] * 3
    assert {part.name: part.kind for part in parts}.items() >= {"stem.0": "Conv2d", "head": "Linear"}.items()
    assert 0 < binary_share(parts) < 1
    assert torch.equal(small(example), expected)


def test_a_module_whose_graph_is_for_other_calls_is_timed_inside():
    config = transformers.LlamaConfig(vocab_size=50, hidden_size=64, intermediate_size=96, num_hidden_layers=1)
    model = pack(binarize(transformers.LlamaForCausalLM(config), "bc"))
    parts = profile(model, {"input_ids": torch.randint(50, (1, 9))}, rounds=1)
    assert "model.layers.0.self_attn.q_proj" in {part.name for part in parts if part.is_binary}
    assert binary_share(parts) > 0


def test_the_share_is_that_of_packed_layers(clock):
    packed = pack(binarize(nn.Linear(8, 8), "bc", keep=None))
    packed.register_forward_hook(lambda *_: setattr(clock, "now", clock.now + 1.0))
    parts = profile(nn.Sequential(Sleeper(clock, 3.0), packed, nn.ReLU()), torch.zeros(1, 8), rounds=1)
    assert binary_share(parts) == 0.25
    assert binary_share(parts[:2]) == binary_share([]) == 0


def test_kinds_are_added_up_longest_first(clock):
    class Short(Sleeper):
        pass

    model = Short(clock, 0.25, Sleeper(clock, 1.0), Short(clock, 0.5, Sleeper(clock, 2.0)))
    kinds = by_kind(profile(model, torch.zeros(1), rounds=1))
    assert list(kinds.items()) == [("Sleeper", 3.0), ("Short", 0.75)]


def test_no_hook_stays():
    model = nn.Sequential(nn.ReLU(), nn.Flatten(5))
    with pytest.raises(IndexError):
        profile(model, torch.zeros(1), rounds=1)
    profile(model[0], torch.zeros(1), rounds=1)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
