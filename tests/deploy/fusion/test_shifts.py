"""Learned shifts (ReActNet's RSign and RPReLU) in fused graphs, against the layers one after another."""

import pytest
import torch
from nets import binary, by_layers, folds_norms, image, mixer, plain
from nets import residual as residual_of_blocks
from torch import nn

import proxconnect as pc
from proxconnect.deploy.fusion.binary_products import BITS, STEPS
from proxconnect.layers.react import RPReLU, Shift
from proxconnect.training.models.bireal import BiRealNet, ReactConv

pytestmark = pytest.mark.skipif(not pc.kernels.is_built(), reason="the kernels were not built")


def shifted(model: nn.Module) -> nn.Module:
    """Its binary form, with shifts as if trained."""
    for module in model.modules():
        if isinstance(module, Shift):
            nn.init.normal_(module.shift)
        if isinstance(module, nn.PReLU):
            nn.init.normal_(module.weight)
    return binary(model)


def chain() -> nn.Module:
    """Between its products only functions of an entry and its channel stand."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 3), Shift(64), nn.Conv2d(64, 48, 3, padding=1), nn.BatchNorm2d(48), RPReLU(48), Shift(48),
        nn.Conv2d(48, 64, 3), Shift(64, -3), nn.Conv2d(64, 64, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(64, 70), RPReLU(70), Shift(70, -1), nn.Linear(70, 30), nn.Linear(30, 5),
    )  # fmt: skip


def tokens() -> nn.Module:
    """The last dimension of three has the channels."""
    return nn.Sequential(
        nn.Conv2d(3, 40, 3), nn.Flatten(2), nn.Linear(100, 64), nn.GELU(), Shift(64, -1), nn.Linear(64, 64),
        nn.Hardtanh(), Shift(64, -1), nn.Linear(64, 5), nn.Flatten(), nn.Linear(200, 2),
    )  # fmt: skip


def residual() -> nn.Module:
    """A sum is read by a shortcut too, so that its shift stands alone."""
    blocks = [ReactConv(16, 16), ReactConv(16, 16)]
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), RPReLU(16), *blocks, nn.Conv2d(16, 2, 1))


@folds_norms
@pytest.mark.parametrize(("build", "links", "bits"), [(chain, 10, 3), (tokens, 4, 2), (residual, 10, 0)])
def test_they_run_in_the_pass_of_a_product_to_the_bit(build, links, bits):
    model = pc.pack(shifted(build()))
    (region,) = model.packing.fusion.regions
    assert (region.counts[STEPS], region.counts[BITS]) == (links, bits)
    for batch in (2, 3):
        x = image(batch=batch)
        assert torch.equal(model(x), by_layers(model, x))


def test_a_shift_of_other_channels_is_no_part_of_a_product():
    """Channels of rows are last, where a shift of dimension 1 numbers the rows."""
    model = nn.Sequential(
        nn.Flatten(2),
        nn.Linear(144, 64),
        nn.Linear(64, 64),
        Shift(3),
        nn.Linear(64, 64),
        nn.Flatten(),
        nn.Linear(192, 2),
    )
    packed = pc.pack(shifted(model))
    x = image()
    assert torch.equal(packed(x), by_layers(packed, x))


def test_a_shift_that_changes_is_seen():
    model, x = pc.pack(shifted(chain())), image()
    before = model(x)
    with torch.no_grad():
        model[7].shift.add_(3.0)
    expected = by_layers(model, x)
    assert torch.equal(model(x), expected)
    assert not torch.equal(expected, before)


def test_a_react_net_packs_saves_and_loads_with_its_thresholds(tmp_path):
    def build() -> nn.Module:
        return BiRealNet((2, 1), width=16, classes=3, block=ReactConv)

    example = torch.randn(2, 3, 32, 32)
    packed = pc.pack(shifted(build()), example=example)
    assert packed.packing.proof is not None
    pc.save(packed, tmp_path / "react.safetensors")
    assert torch.equal(pc.load(tmp_path / "react.safetensors", build())(example), packed(example))


def thresholded(model: nn.Module) -> nn.Module:
    """Its binary form, whose layers have thresholds of their own."""
    model = pc.add_thresholds(binary(model))
    for module in model.modules():
        if isinstance(module, Shift):
            nn.init.normal_(module.shift)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("build", [plain, mixer, residual_of_blocks])
def test_thresholds_of_layers_run_in_the_pass_before_to_the_bit(build):
    """As many products as without make bits, of sums that took the threshold of the layer that reads them."""
    model = thresholded(build())
    packed, without = pc.pack(model), pc.pack(binary(build()))
    (region,), (other,) = packed.packing.fusion.regions, without.packing.fusion.regions
    assert (region.counts["binary layers"], region.counts[BITS]) == (other.counts["binary layers"], other.counts[BITS])
    assert region.counts[STEPS] >= other.counts[STEPS] + region.counts[BITS]
    for batch in (2, 3):
        x = image(batch=batch)
        assert torch.equal(packed(x), by_layers(packed, x))


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
def test_borders_of_thresholds(padding_mode):
    """Zeros stand beyond the signs, not beyond what is shifted; copies are shifted as what they copy."""
    layers = [nn.Conv2d(3, 64, 3), *(nn.Conv2d(64, 64, 3, padding=1, padding_mode=padding_mode) for _ in range(2))]
    model, x = thresholded(nn.Sequential(*layers, nn.Conv2d(64, 2, 1))), image()
    packed = pc.pack(model, example=x)
    assert torch.equal(by_layers(packed, x), model(x))


def test_layers_that_share_an_input_have_their_own_thresholds():
    class Twins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.first = nn.Linear(64, 64), nn.Linear(64, 64)
            self.one, self.other, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 2)

        def forward(self, x):
            x = self.first(self.stem(x))
            return self.head(self.one(x) + self.other(x))

    model, x = thresholded(Twins()), torch.randn(9, 64)
    packed = pc.pack(model, example=x)
    assert packed.packing.fusion.regions[0].counts[BITS] == 0
    assert torch.equal(packed(x), model(x))
