"""What is not binary, in 8 bits, in one pass with what stands around it, against the layers one after another."""

import copy
import pickle

import pytest
import torch
from nets import binary, folds_norms, image
from torch import Tensor, nn

import proxconnect as pc
from proxconnect.deploy.fusion import layer_by_layer
from proxconnect.deploy.fusion.graph_modules import graph_forward
from proxconnect.deploy.fusion.images import with_channels_last
from proxconnect.deploy.fusion.remainder import Int8Conv, Int8Rows

pytestmark = pytest.mark.skipif(
    "avx2" not in pc.kernels.instruction_sets(),
    reason="8-bit layers have no fast kernels here",
)


class Net(nn.Module):
    """A stem that is pooled, a binary block with a shortcut, an 8-bit convolution to which is added, and a head."""

    def __init__(self, stem: nn.Module, mean: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(16), nn.PReLU(16), nn.MaxPool2d(3, 2, 1))
        self.conv, self.norm = nn.Conv2d(16, 24, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(24)
        self.shortcut = nn.Sequential(mean, shortcut, nn.BatchNorm2d(24))
        self.mixed, self.mixed_norm, self.tanh = nn.Conv2d(24, 24, 3, padding=1), nn.BatchNorm2d(24), nn.Hardtanh()
        self.last, self.head = nn.Conv2d(24, 64, 3), nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.norm(self.conv(x)) + self.shortcut(x)
        x = self.tanh(self.mixed_norm(self.mixed(x)) + x)
        return self.head(self.last(x).mean((-2, -1)))


def packed(
    stem: nn.Module | None = None, mean: nn.Module | None = None, shortcut: nn.Module | None = None
) -> nn.Module:
    net = Net(
        stem or nn.Conv2d(3, 16, 7, stride=2, padding=3, bias=False), mean or nn.AvgPool2d(2, ceil_mode=True),
        shortcut or nn.Conv2d(16, 24, 1),
    )  # fmt: skip
    return pc.pack(binary(net, keep=("edges", "shortcut.*", "mixed")), remainder="int8")


def by_layers(model: nn.Module, x: Tensor) -> Tensor:
    with layer_by_layer(model), torch.no_grad():
        return model(with_channels_last(x))


def calls(model: nn.Module) -> list[object]:
    """What the fused graph calls."""
    fused = graph_forward(model)
    assert fused is not None
    return [node.target for node in fused._run.__self__.graph.nodes if node.op == "call_function"]


SHORTCUTS = {
    "mean": (nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(16, 24, 1)),
    "mean that divides by all": (nn.AvgPool2d(3, 2, 1, count_include_pad=True), nn.Conv2d(16, 24, 1)),
    "stride": (nn.Identity(), nn.Conv2d(16, 24, 1, stride=2)),
    "mean and stride": (nn.AvgPool2d(3, 1, 1), nn.Conv2d(16, 24, 1, stride=2)),
    "reflected": (nn.Identity(), nn.Conv2d(16, 24, 3, stride=2, padding=1, padding_mode="reflect")),
    "uneven": (nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(16, 24, 4, padding="same")),
}


@pytest.mark.parametrize("kind", SHORTCUTS)
@pytest.mark.parametrize("size", [43, 44])
def test_equal_to_the_layers_to_the_bit(kind, size):
    model = packed(None, *SHORTCUTS[kind])
    for _ in range(2):  # the first answer is compared with the layers'
        x = image(size)
        for input in (x, x.contiguous()):
            assert torch.equal(model(input), by_layers(model, x))
    assert any(isinstance(call, Int8Conv) for call in calls(model))
    assert not graph_forward(model)._is_given_up


@folds_norms
def test_what_is_fused():
    model = packed()
    (region,) = model.packing.fusion.regions
    assert region.counts["layers of 8 bits"] == 4
    assert "norms of floats" not in region.counts
    assert "4 layers of 8 bits" in str(region)
    stem, *_ = (call for call in calls(model) if isinstance(call, Int8Conv))
    assert [type(stem.pool), len(stem.steps)] == [nn.MaxPool2d, 2]
    assert with_channels_last not in calls(model)  # the stem reads images as they are
    (shortcut,) = (call for call in calls(model) if isinstance(call, Int8Conv) and call.mean is not None)
    assert shortcut.layer is model.shortcut[1]


class Rows(nn.Module):
    """Linear layers of 8 bits, of which one is followed by a norm, an addition and an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.binary, self.mixed = nn.Linear(20, 24), nn.Linear(24, 24), nn.Linear(24, 24)
        self.norm, self.act, self.head = nn.BatchNorm1d(24), nn.PReLU(24), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.binary(self.first(x))
        return self.head(self.act(self.norm(self.mixed(x)) + x))


def test_an_addition_that_repeats_what_is_added():
    class Repeating(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(self.conv(self.stem(x)))
            x = self.tanh(self.mixed_norm(self.mixed(x)) + x[:, :1])
            return self.head(self.last(x).mean((-2, -1)))

    net = Repeating(nn.Conv2d(3, 16, 3), nn.Identity(), nn.Conv2d(16, 24, 1))
    model, x = pc.pack(binary(net, keep=("edges", "mixed")), remainder="int8"), image(40)
    assert torch.equal(model(x), by_layers(model, x))
    assert not graph_forward(model)._is_given_up


@folds_norms
def test_rows():
    model = pc.pack(binary(Rows(), keep=("edges", "mixed")), remainder="int8")
    (region,) = model.packing.fusion.regions
    assert region.counts["layers of 8 bits"] == 3
    for rows in (1, 7, 40):
        x = torch.randn(rows, 20)
        for _ in range(2):
            assert torch.equal(model(x), by_layers(model, x))
    (mixed,) = (call for call in calls(model) if isinstance(call, Int8Rows) and call.layer is model.mixed)
    assert len(mixed.steps) == 3
    before = model(x)
    model.mixed.levels.neg_()
    assert torch.equal(model(x), by_layers(model, x))
    assert not torch.equal(model(x), before)


def test_a_mean_that_another_reads_stays():
    class Two(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            mean = self.shortcut[0](x)
            x = self.norm(self.conv(x)) + self.shortcut[2](self.shortcut[1](mean))
            return self.head(self.last(x).mean((-2, -1))) + mean.mean((1, 2, 3))[:, None]

    net = Two(nn.Conv2d(3, 16, 3), nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(16, 24, 1))
    model = pc.pack(binary(net, keep=("edges", "shortcut.*", "mixed")), remainder="int8")
    x = image(40)
    assert torch.equal(model(x), by_layers(model, x))
    assert not graph_forward(model)._is_given_up
    assert all(call.mean is None for call in calls(model) if isinstance(call, Int8Conv))


@pytest.mark.parametrize("what", [float("nan"), float("inf")])
def test_images_without_a_step(what):
    model, x = packed(), image(40)
    x[1, 2, 3, 4] = what
    answer = model(x)
    assert answer.isnan().all(1).tolist() == [False, True]
    assert torch.equal(answer[0], model(x[:1])[0])


def test_a_change_of_what_was_folded_is_seen():
    model, x = packed(), image(40)
    model(x)
    changes = [
        lambda: model.stem[0].scale.mul_(2),
        lambda: model.stem[0].levels.neg_(),
        lambda: model.stem[1].running_mean.add_(1),
        lambda: model.stem[2].weight.neg_(),
        lambda: model.mixed.bias.add_(1),
        lambda: setattr(model.shortcut, "0", nn.MaxPool2d(2, ceil_mode=True)),
        lambda: setattr(model.stem, "3", nn.MaxPool2d(2)),
    ]
    for change in changes:
        before = model(x)
        change()
        answer = model(x)
        assert torch.equal(answer, by_layers(model, x))
        assert not torch.equal(answer, before)


def test_copies_run_fused_and_alone():
    model, x = packed(), image(40)
    answer = model(x)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), answer)
        assert any(isinstance(call, Int8Conv) for call in calls(twin))
        twin.stem[0].scale.mul_(2)
        assert not torch.equal(twin(x), answer)
    assert torch.equal(model(x), answer)


def test_other_dtypes_go_by_layers():
    model = packed().double()
    x = image(40).double()
    assert torch.equal(model(x), by_layers(model, x))


def test_large_batches_in_parts():
    model, x = packed(), image(160, batch=20)
    assert graph_forward(model)._are_apart
    assert torch.equal(model(x), by_layers(model, x))
