"""Convolutions of floats with binary weights in one pass with what stands around them, against the layers."""

from typing import Any

import pytest
import torch
from nets import binary, by_layers, folds_norms
from torch import Tensor, nn

import proxconnect as pc
from proxconnect import kernels
from proxconnect.deploy.fusion.graph_modules import graph_forward
from proxconnect.deploy.fusion.remainder import SignConv
from proxconnect.deploy.fusion.sign_convs import SignConvByFloats
from proxconnect.deploy.packed.layers.one_bit import set_inputs
from proxconnect.kernels import fused_image_conv
from proxconnect.kernels.prepacked import depthwise_panels

pytestmark = pytest.mark.skipif(not pc.kernels.is_built(), reason="the kernels were not built")


class Net(nn.Module):
    """Behind a float stem: a pool, a block whose shortcut has an average pool, one in groups, and one that reflects."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.pooled = nn.Sequential(nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.conv, self.norm = nn.Conv2d(32, 48, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(48)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(32, 48, 1), nn.BatchNorm2d(48))
        self.strided = nn.Sequential(nn.Conv2d(48, 64, 1, stride=2), nn.PReLU(64))
        self.grouped = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1, groups=2), nn.BatchNorm2d(64))
        self.reflected = nn.Conv2d(64, 64, 3, padding=1, padding_mode="reflect")
        self.head = nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pooled(self.stem(x))
        x = torch.relu(self.norm(self.conv(x)) + self.shortcut(x))
        x = self.strided(x)
        return self.head(self.reflected(self.grouped(x) + x).mean((-2, -1)))


def packed(inputs: str) -> nn.Module:
    return pc.pack(binary(Net(), activations=None), inputs=inputs)  # type: ignore[arg-type]  # one of the two


def fused(model: nn.Module) -> list[SignConv]:
    forward = graph_forward(model)
    assert forward is not None
    nodes = forward._run.__self__.graph.nodes
    return [node.target for node in nodes if isinstance(node.target, SignConv)]


@pytest.mark.parametrize("inputs", ["exact", "int8"])
@pytest.mark.parametrize("size", [21, 24])
def test_as_the_layers(inputs: str, size: int) -> None:
    model = packed(inputs)
    x = torch.randn(2, 3, size, size).contiguous(memory_format=torch.channels_last)
    for _ in range(2):  # the first answer is compared with the layers'
        torch.testing.assert_close(model(x), by_layers(model, x))
        torch.testing.assert_close(model(x.contiguous()), by_layers(model, x))
    assert not graph_forward(model)._is_given_up  # type: ignore[union-attr]  # there is one


@folds_norms
def test_what_is_fused() -> None:
    model = packed("int8")
    (region,) = model.packing.fusion.regions
    assert "norms of floats" not in region.counts
    assert region.counts["binary layers"] == 5
    assert region.counts["steps (norms, activations, additions)"] == 9
    by_layer = {call.layer: call for call in fused(model)}
    assert by_layer[model.pooled[0]].pool is model.pooled[3]
    assert by_layer[model.shortcut[1]].mean is model.shortcut[0]
    assert model.reflected not in by_layer
    assert [by_layer[layer].sums_integers for layer in (model.conv, model.shortcut[1], model.grouped[0])] == [
        True,
        False,
        True,
    ]


def test_other_inputs_than_those_of_the_graph() -> None:
    model, exact = packed("int8"), packed("exact")
    exact.load_state_dict(model.state_dict())
    x = torch.randn(1, 3, 20, 20)
    rounded = model(x)
    set_inputs(model, "exact")
    torch.testing.assert_close(model(x), by_layers(exact, x), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(rounded, model(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("inputs", ["exact", "int8"])
def test_the_proof_covers_them(inputs: str) -> None:
    model = binary(Net(), activations=None)
    proof = pc.pack(model, inputs=inputs, example=torch.randn(2, 3, 24, 24)).packing.proof  # type: ignore[arg-type]  # one of the two
    assert proof is not None
    assert proof.floats_gap < (1e-5 if inputs == "exact" else 0.1)


def test_a_rounded_image_keeps_its_bound() -> None:
    """The step is that of the largest entry of the image, and other images do not affect it."""
    layer = pc.BinaryConv2d(32, 40, 3, padding=1, bias=False).eval().requires_grad_(False)
    x = torch.randn(3, 32, 9, 9) * torch.tensor([1.0, 1e-3, 1e3]).view(-1, 1, 1, 1)
    error = (pc.pack(nn.Sequential(layer), inputs="int8")(x) - layer(x)).abs()
    step = x.abs().amax((1, 2, 3), keepdim=True) / 127
    assert bool((error <= layer.binary_weight.abs().amax((1, 2, 3)).view(1, -1, 1, 1) * 32 * 9 * step / 2).all())


class Inverted(nn.Module):
    """A block of MobileNet: a narrow convolution, a depthwise one, and one to few outputs, beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 20, 3, padding=1)
        self.wide = nn.Sequential(nn.Conv2d(20, 40, 1, bias=False), nn.BatchNorm2d(40), nn.ReLU6())
        self.deep = nn.Sequential(nn.Conv2d(40, 40, 3, padding=1, groups=40), nn.BatchNorm2d(40), nn.ReLU6())
        self.flat = nn.Sequential(nn.Conv2d(40, 20, 1, bias=False), nn.BatchNorm2d(20))
        self.strided = nn.Conv2d(20, 20, 5, stride=2, dilation=2, groups=20)
        self.head = nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.flat(self.deep(self.wide(x))) + x
        return self.head(self.strided(x).mean((-2, -1)))


@pytest.mark.parametrize("inputs", ["exact", "int8"])
@pytest.mark.parametrize("size", [19, 96])  # small and large images are rounded differently
def test_depthwise_and_narrow_ones(inputs: str, size: int) -> None:
    model: Any = pc.pack(binary(Inverted(), activations=None), inputs=inputs, example=torch.randn(2, 3, size, size))  # type: ignore[arg-type]  # one of the two
    x = torch.randn(2, 3, size, size)
    for _ in range(2):
        torch.testing.assert_close(model(x), by_layers(model, x))
    assert not graph_forward(model)._is_given_up  # type: ignore[union-attr]  # there is one
    layers = {call.layer for call in fused(model) if isinstance(call, SignConvByFloats)}
    assert {model.deep[0], model.strided} <= layers
    if kernels.has_float_kernels():
        assert model.flat[0] in layers
        assert (model.wide[0] in layers) == (inputs == "exact")


def test_the_proof_finds_exchanged_taps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_image_conv, "depthwise_panels", lambda weight, n: depthwise_panels(weight.mT, n))
    with pytest.raises(pc.ProofError, match=r"layers deep\.0(, deep\.1, deep\.2)? "):
        pc.pack(binary(Inverted(), activations=None), example=torch.randn(2, 3, 12, 12))
