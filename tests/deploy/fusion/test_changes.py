"""Changes of what a fused graph was made from, however they are made."""

import copy
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import proxconnect as pc
from proxconnect.deploy.fusion import layer_by_layer
from proxconnect.deploy.fusion.graph_forward import _MOST_CHANGES
from proxconnect.deploy.fusion.graph_modules import graph_forward

pytestmark = pytest.mark.skipif(not pc.kernels.is_built(), reason="the kernels were not built")

GAIN = 1.0
TABLE = {"gain": 1.0}


def gain_of(settings: Any) -> float:
    return settings.gain * GAIN * TABLE["gain"]


class Gains(nn.Module):
    """Multiplies by numbers from everywhere."""

    per_class = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.temperature, self.gains, self.by_name = 1.0, [1.0, 1.0], {"last": 1.0}
        self.settings = SimpleNamespace(gain=1.0, inner=[1.0])
        self.scale = torch.ones(3)

    def forward(self, x: Tensor) -> Tensor:
        x = x / self.temperature * self.gains[0] * sum(self.by_name.values()) * self.per_class
        return x * gain_of(self.settings) * self.settings.inner[-1] * self.scale.exp().sum().item()


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.depth, self.note = 3, ""
        self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(4))
        self.norms = nn.ModuleList(nn.BatchNorm1d(32) for _ in range(4))
        self.gains = Gains()

    def forward(self, x: Tensor) -> Tensor:
        for layer, norm in zip(self.layers[: self.depth], self.norms, strict=False):
            x = norm(layer(x)) + self.layers[0].in_features / 1000
        return self.gains(x)


X = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))


def packed() -> Any:
    model = pc.pack(pc.binarize(Network(), "bnn++", "bnn", keep=()).eval())
    assert [region.name for region in model.packing.fusion.regions] == [""]
    return model


def by_layers(model: nn.Module) -> Tensor:
    with layer_by_layer(model), torch.no_grad():
        return model(X)


@torch.inference_mode()
def load_other(model: Any) -> None:
    model.load_state_dict({n: t + 1 if t.is_floating_point() else t for n, t in model.state_dict().items()})


def train_norms(model: Any) -> None:
    with torch.no_grad():
        model.train()(X * 2 + 1)
    model.eval()


def step_fused(model: Any) -> None:
    norms = [p.requires_grad_() for norm in model.norms for p in norm.parameters()]
    optimizer = torch.optim.SGD(norms, lr=0.1, fused=True)
    model(X).square().sum().backward()
    optimizer.step()
    for parameter in norms:
        parameter.requires_grad_(False)


CHANGES: dict[str, Callable[[Any], object]] = {
    "a number": lambda m: setattr(m.gains, "temperature", 2.0),
    "the depth": lambda m: setattr(m, "depth", 2),
    "an entry of a list": lambda m: m.gains.gains.__setitem__(0, 2.0),
    "an entry of a dictionary": lambda m: m.gains.by_name.update(last=2.0),
    "a new entry of a dictionary": lambda m: m.gains.by_name.update(next=2.0),
    "an attribute of an object": lambda m: setattr(m.gains.settings, "gain", 2.0),
    "a list in an object": lambda m: m.gains.settings.inner.append(2.0),
    "a tensor that is no buffer": lambda m: m.gains.scale.data.mul_(2),
    "a number of a layer": lambda m: setattr(m.layers[0], "in_features", 7),
    "statistics in train()": train_norms,
    "statistics of one norm in train()": lambda m: (m.norms[0].train()(X), m.norms[0].eval()),
    "an optimizer with fused=True": step_fused,
    "load_state_dict in inference_mode": load_other,
    "a write through .data": lambda m: m.norms[1].bias.data.add_(1),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_seen(change):
    model = packed()
    before = model(X)
    change(model)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(model(X), by_layers(model))
        assert torch.equal(model(X), by_layers(model))
    assert not torch.equal(model(X), before)


@pytest.mark.parametrize("change", ["a global", "an entry of a global", "an attribute of the class"])
def test_a_change_outside_the_model_is_seen(change, monkeypatch):
    model = packed()
    before = model(X)
    if change == "a global":
        monkeypatch.setitem(globals(), "GAIN", 2.0)
    elif change == "an entry of a global":
        monkeypatch.setitem(TABLE, "gain", 2.0)
    else:
        monkeypatch.setattr(Gains, "per_class", 2.0)
    assert torch.equal(model(X), by_layers(model))
    assert torch.equal(model(X), before * 2)


def test_other_changes_make_no_new_graph():
    model = packed()
    model(X)
    graph = graph_forward(model)._run
    model.note, model.gains.temperature = "unread", float("1")
    model(X)
    assert graph_forward(model)._run is graph


def test_a_loaded_network_sees_them_too(tmp_path):
    pc.save(packed(), tmp_path / "net.safetensors")
    model = pc.load(tmp_path / "net.safetensors", Network())
    model(X)
    model.gains.temperature = 4.0
    assert torch.equal(model(X), by_layers(model))


def test_a_network_that_changes_at_each_call_runs_by_layers():
    model = packed()
    for call in range(_MOST_CHANGES):
        model.gains.temperature = call + 1.0
        model(X), model(X)
    for call in range(_MOST_CHANGES):
        model.depth = call % 2 + 1
        assert torch.equal(model(X), by_layers(model))
    model.depth = 1
    with pytest.warns(UserWarning, match="its numbers have changed before each of the last 16 calls"):
        model(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.depth = 3
        assert torch.equal(model(X), by_layers(model))


def test_an_inner_module_in_training_runs_by_layers():
    model = packed()
    model(X)
    model.norms[0].train()
    copied = copy.deepcopy(model)
    assert torch.equal(model(X), by_layers(copied))


def test_large_tensors_are_compared_after_training():
    torch.manual_seed(0)
    layers = [nn.Linear(32, 8), nn.Linear(8, 5000), nn.BatchNorm1d(5000), nn.Linear(5000, 4)]
    model = pc.pack(pc.binarize(nn.Sequential(*layers), "bnn++", "bnn", keep=()).eval())
    before, norm = model(X), model[2]
    model.train()
    norm(torch.randn(4, 5000))
    trained = model.eval()(X)
    assert torch.equal(trained, by_layers(model))
    assert not torch.equal(trained, before)
    norm.bias.requires_grad_()
    model(X)  # as in training in `eval()`
    norm.bias.requires_grad_(False).data.add_(1)
    assert torch.equal(model(X), by_layers(model))
    assert not torch.equal(model(X), trained)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: setattr(m[2], "stride", 1),
        lambda m: setattr(m[2], "ceil_mode", True),
        lambda m: setattr(m[3], "stride", (2, 2)),
        lambda m: setattr(m[3], "dilation", (2, 2)),
        lambda m: setattr(m[6], "approximate", "tanh"),
    ],
)
def test_geometry_is_watched(change):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.MaxPool2d(3, 2), nn.Conv2d(16, 16, 3, padding=2)]
    layers += [nn.BatchNorm2d(16), nn.Conv2d(16, 16, 1), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    layers += [nn.Linear(16, 4)]
    model = pc.pack(pc.binarize(nn.Sequential(*layers), "bnn++", "bnn").eval())
    image = torch.randn(2, 3, 12, 12).contiguous(memory_format=torch.channels_last)
    before = model(image)
    change(model)
    answer = model(image)
    with layer_by_layer(model), torch.no_grad():
        torch.testing.assert_close(answer, model(image))
    assert not torch.equal(answer, before)
