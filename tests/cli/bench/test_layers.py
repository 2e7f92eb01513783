"""Layers that are timed, their inputs, and their counterparts."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from proxconnect import binarize, pack
from proxconnect.cli.bench import profile
from proxconnect.deploy.packed import PackedLayer


class Net(nn.Module):
    """One layer that is called twice, after which its input is overwritten, and one whose weight is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.twice = nn.Linear(6, 6)
        self.taken = nn.Linear(6, 6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.last = nn.Linear(6, 2)

    def forward(self, x):
        x = self.first(x)
        y = self.twice(x)
        x.zero_()
        y = functional.linear(self.twice(y), self.taken.weight)
        return self.last(self.attention(y, y, y, need_weights=False)[0])


@pytest.fixture
def nets():
    model, example = Net().eval().requires_grad_(False), torch.randn(2, 5, 6)
    return model, pack(binarize(copy.deepcopy(model), "bnn++", example=example)), example


def test_the_units_cover_every_binary_layer_once(nets):
    model, packed, _ = nets
    units = profile.units(model, packed)
    covered = [name for unit in units for name in unit.members]
    assert sorted(covered) == sorted(n for n, m in packed.named_modules() if isinstance(m, PackedLayer))
    assert [unit.name for unit in units] == ["twice", "taken", "attention"]
    assert all(unit.float_form is model.get_submodule(unit.name) for unit in units)


def test_each_form_gets_the_input_of_the_packed_network(nets, monkeypatch):
    model, packed, example = nets
    seen = []

    def interleaved(works, rounds, turn):
        seen.append([work() for work in works.values()])
        return dict.fromkeys(works, (1.0,) * rounds)

    monkeypatch.setattr(profile, "interleaved", interleaved)
    with torch.inference_mode():
        found = profile.time_layers(model, packed, example, rounds=2)
        x = packed.first(example)
        assert torch.equal(seen[0][0], model.twice(x))
        assert torch.equal(seen[0][1], packed.twice(x))
    assert [(layer["calls"], layer["packed_seconds"] is None) for layer in found] == [(2, False), (0, True), (1, False)]
    assert [profile.seconds_in_run(layer) for layer in found] == [(2.0, 2.0), (0.0, 0.0), (1.0, 1.0)]
    assert found[0]["macs"] == 2 * 10 * 36
    assert found[2]["macs"] == 10 * 4 * 36 + 2 * 2 * 2 * 5 * 5 * 3
