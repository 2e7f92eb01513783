"""Float convolutions by kernels in fused graphs, against torch's: the whole may differ where a sign turns."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from nets import binary, folds_norms, image
from torch import Tensor, fx, nn

import proxconnect as pc
from proxconnect.deploy.fusion import layer_by_layer
from proxconnect.deploy.fusion.closeness import gap
from proxconnect.deploy.fusion.graph_modules import graph_forward
from proxconnect.deploy.fusion.images import with_channels_last
from proxconnect.deploy.fusion.remainder import FloatConv

pytestmark = pytest.mark.skipif(not pc.kernels.has_float_kernels(), reason="this machine has no such kernels")


class Net(nn.Module):
    """A stem that is pooled, a binary block with a shortcut, a float convolution to which is added, and a head."""

    def __init__(self, stem: nn.Module, mean: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(16), nn.PReLU(16), nn.MaxPool2d(3, 2, 1))
        self.conv, self.norm = nn.Conv2d(16, 24, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(24)
        self.shortcut = nn.Sequential(mean, shortcut, nn.BatchNorm2d(24))
        self.mixed, self.mixed_norm = nn.Conv2d(24, 24, 3, padding=1), nn.BatchNorm2d(24)
        self.last, self.head = nn.Conv2d(24, 64, 3), nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.norm(self.conv(x)) + self.shortcut(x)
        x = self.mixed_norm(self.mixed(x)) + x
        return self.head(self.last(x).mean((-2, -1)))


def hard_net(mean: nn.Module | None = None, shortcut: nn.Module | None = None) -> nn.Module:
    stem = nn.Conv2d(3, 16, 7, stride=2, padding=3, bias=False)
    net = Net(stem, mean or nn.AvgPool2d(2, ceil_mode=True), shortcut or nn.Conv2d(16, 24, 1))
    return binary(net, keep=("edges", "shortcut.*", "mixed"))


def packed(mean: nn.Module | None = None, shortcut: nn.Module | None = None) -> nn.Module:
    return pc.pack(hard_net(mean, shortcut), floats="fast")


def fast_calls(model: nn.Module) -> list[FloatConv]:
    fused = graph_forward(model)
    assert fused is not None
    return [node.target for node in fused.work.graph.nodes if isinstance(node.target, FloatConv)]


class ByTorch(fx.Interpreter):
    """Runs a graph with its float convolutions by torch."""

    def call_function(self, target, args, kwargs):
        return super().call_function(target.by_layers if isinstance(target, FloatConv) else target, args, kwargs)


def by_torch(model: nn.Module, x: Tensor) -> Tensor:
    with graph_forward(model).run_by(lambda graph: ByTorch(graph).run):
        return model(x)


def by_layers(model: nn.Module, x: Tensor) -> Tensor:
    with layer_by_layer(model), torch.no_grad():
        return model(with_channels_last(x))


SHORTCUTS = {
    "mean": (nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(16, 24, 1)),
    "mean that divides by all": (nn.AvgPool2d(3, 2, 1, count_include_pad=True), nn.Conv2d(16, 24, 1)),
    "stride": (nn.Identity(), nn.Conv2d(16, 24, 1, stride=2)),
    "mean and stride": (nn.AvgPool2d(3, 1, 1), nn.Conv2d(16, 24, 1, stride=2)),
    "reflected": (nn.Identity(), nn.Conv2d(16, 24, 3, stride=2, padding=1, padding_mode="reflect")),
    "uneven": (nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(16, 24, 4, padding="same")),
    "groups": (nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(16, 24, 1, groups=2)),
    "same": (nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(16, 24, 3, padding="same")),
}
ARE_TORCHS = {"reflected", "uneven", "groups"}


@pytest.mark.parametrize("kind", SHORTCUTS)
@pytest.mark.parametrize("size", [43, 44])
def test_each_convolution_is_near_torchs(kind: str, size: int) -> None:
    model, x = packed(*SHORTCUTS[kind]), image(size)
    seen = []
    with torch.no_grad():
        model(x)
        for call in fast_calls(model):
            call.kernel = told(call.kernel, seen)
        for input in (x, x.contiguous()):
            torch.testing.assert_close(by_torch(model, input), by_layers(model, x), rtol=0, atol=1e-5)
            assert model(input).is_contiguous()
    assert len(fast_calls(model)) == (2 if kind in ARE_TORCHS else 3)
    assert len(seen) == 2 * len(fast_calls(model))
    assert all(answer is not None for answer in seen)
    assert not graph_forward(model)._is_given_up


def told(kernel, seen):
    def call(*args):
        answer = kernel(*args)
        seen.append(answer)
        return answer

    return call


@folds_norms
def test_what_is_fused() -> None:
    model = packed()
    (region,) = model.packing.fusion.regions
    assert region.counts.get("float convolutions") == 3
    assert "norms of floats" not in region.counts
    assert "3 float convolutions" in str(region)
    stem, *_ = fast_calls(model)
    assert [type(stem.pool), len(stem.steps)] == [nn.MaxPool2d, 2]
    assert "float convolutions" not in pc.pack(hard_net()).packing.fusion.regions[0].counts


class Patches(nn.Module):
    """Patches of an image as rows, and a linear layer."""

    def __init__(self, turn: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.patches, self.linear, self.head, self.turn = (
            nn.Conv2d(3, 40, 4, 4),
            nn.Linear(40, 64),
            nn.Linear(64, 5),
            turn,
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.linear(self.turn(self.patches(x)).transpose(1, 2)).mean(1))


def test_patches_that_are_flattened_are_fused() -> None:
    turns = {True: lambda y: y.flatten(2), False: lambda y: y.view(2, 40, -1)}
    for is_fused, turn in turns.items():
        model, x = pc.pack(binary(Patches(turn)), floats="fast"), image(24)
        answer = model(x)
        assert len(fast_calls(model)) == is_fused
        assert not graph_forward(model)._is_given_up
        with layer_by_layer(model), torch.no_grad():
            torch.testing.assert_close(answer, model(x), rtol=0, atol=1e-5)


def test_a_proof_holds_convolutions_beside_torchs() -> None:
    proof = pc.pack(hard_net(), floats="fast", example=image(40)).packing.proof
    assert proof.fast == 3
    assert 0 <= proof.fast_gap < 1e-5
    distance = f"differ by at most {proof.fast_gap:.1e}" if proof.fast_gap else "equal to the bit"
    assert f"3 float operations by kernels, compared with torch's: {distance}" in str(proof)


def test_a_proof_finds_a_convolution_that_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    own = FloatConv.__call__
    monkeypatch.setattr(FloatConv, "__call__", lambda self, *args: 1.001 * own(self, *args))
    with pytest.raises(pc.ProofError, match=r"the fused operation of the layers stem\.0[, ]"):
        pc.pack(hard_net(), floats="fast", example=image(40))


@pytest.mark.parametrize("what", [float("nan"), 1e6])
def test_images_without_a_fixed_point_go_by_torch(what: float) -> None:
    model, x = packed(), image(40)
    model(x)
    x[1, 2, 3, 4] = what
    answer, expected = model(x), by_torch(model, x)
    assert torch.equal(answer.isnan(), expected.isnan())
    assert (fast_calls(model)[0].kernel(x) is None) == (pc.kernels.instruction_sets()[-1] == "amx")


def test_a_change_of_what_was_folded_is_seen() -> None:
    model, x = packed(), image(40)
    model(x)
    changes = [
        lambda: model.stem[0].weight.mul_(2),
        lambda: model.stem[1].running_mean.add_(1),
        lambda: model.stem[2].weight.neg_(),
        lambda: model.mixed.bias.add_(1),
        lambda: setattr(model.stem, "3", nn.MaxPool2d(2)),
    ]
    for change in changes:
        before = model(x)
        change()
        answer = model(x)
        assert not torch.equal(answer, before)
        torch.testing.assert_close(by_torch(model, x), by_layers(model, x), rtol=0, atol=1e-4)


def test_hooks_are_called() -> None:
    model, x, called = packed(), image(40), []
    model(x)
    model.stem[0].register_forward_hook(lambda *_: called.append(1))
    model(x)
    assert called


def test_copies_and_files(tmp_path) -> None:
    hard, x = hard_net(), image(40)
    model = pc.pack(hard, floats="fast")
    answer = model(x)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), answer)
        assert len(fast_calls(twin)) == 3
    pc.save(model, tmp_path / "net.safetensors")
    again = pc.load(tmp_path / "net.safetensors", hard_float(), floats="fast")
    assert torch.equal(again(x), answer)
    plain = pc.load(tmp_path / "net.safetensors", hard_float())
    assert not fast_calls(plain)
    torch.testing.assert_close(plain(x), by_torch(model, x), rtol=0, atol=1e-5)


def hard_float() -> nn.Module:
    return Net(
        nn.Conv2d(3, 16, 7, stride=2, padding=3, bias=False), nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(16, 24, 1)
    )


def test_other_dtypes_go_by_layers() -> None:
    model = packed().double()
    x = image(40).double()
    assert torch.equal(model(x), by_layers(model, x))


def test_large_batches_in_parts() -> None:
    model, x = packed(), image(160, batch=20)
    assert graph_forward(model)._are_apart
    assert gap(by_layers(model, x), by_torch(model, x)) < 1e-5
    assert torch.equal(model(x)[:3], model(x[:3]))


def test_what_is_neither() -> None:
    with pytest.raises(ValueError, match="floats must be 'torch' or 'fast'"):
        pc.pack(hard_net(), floats="quick")


def test_a_machine_without_such_kernels_takes_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxconnect.deploy.fusion.remainder.can_convolve_floats", lambda *_: False)
    model, x = packed(), image(40)
    assert not fast_calls(model)
    assert torch.equal(model(x), by_layers(model, x))
