"""Signs of functions of sums, against the functions themselves on every sum."""

import pytest
import torch
from nets import binary, by_layers, image
from torch import Tensor, nn
from torch.nn import functional

import proxconnect as pc
from proxconnect import Accumulator
from proxconnect.deploy.fusion.binary_products import BITS, signs_of
from proxconnect.kernels.steps import Signs

CHANNELS, ENTRIES = 24, 90


def bits_of(signs: Signs, sums: Tensor) -> Tensor:
    """(sums, channels): +1 or -1, by the definition of `Signs`."""
    sums = sums[:, None, None].long()
    inside = (sums >= signs.low) & (sums < signs.low.long() + signs.width.long())
    return torch.where((inside.sum(1) % 2 == 1) ^ signs.flip.bool(), 1.0, -1.0)


def norm(gamma: Tensor, variance: float = 1.0) -> nn.Module:
    norm = nn.BatchNorm2d(CHANNELS).eval()
    with torch.no_grad():
        norm.weight.copy_(gamma)
        norm.bias.normal_()
        norm.running_mean.normal_()
        norm.running_var.fill_(variance)
    return norm


def assert_right(functions, scale, bias, low=-ENTRIES, high=ENTRIES, accumulator=None) -> None:
    sums = torch.arange(low, high + 1, dtype=torch.float32)
    signs = signs_of(functions, CHANNELS, ENTRIES, scale, bias, accumulator, 1)
    assert signs is not None
    values = sums[:, None] * (torch.ones(1) if scale is None else scale) + (torch.zeros(1) if bias is None else bias)
    values = values.expand(-1, CHANNELS)[:, :, None, None]
    with torch.no_grad():
        for function in functions:
            values = function(values)
    assert torch.equal(bits_of(signs, sums), torch.where(values[:, :, 0, 0] >= 0, 1.0, -1.0))


@pytest.mark.covering
@pytest.mark.parametrize("gamma", [1.0, -1.0, 0.0, 1e-30, -1e-30])
@pytest.mark.parametrize("variance", [0.0, 1e-9, 1.0])
@pytest.mark.parametrize("activation", [nn.Identity(), nn.ReLU(), nn.Hardtanh(), nn.PReLU(init=-0.5), nn.Hardswish()])
@torch.no_grad()
def test_norm_and_activation(gamma, variance, activation):
    functions = [norm(torch.randn(CHANNELS).abs() * gamma, variance), activation]
    assert_right(functions, torch.rand(CHANNELS) - 0.5, torch.randn(CHANNELS))
    assert_right(functions, None, None)
    assert_right(functions, torch.tensor([0.0]), None)


def test_a_sum_at_the_threshold_is_positive():
    threshold = torch.arange(CHANNELS) - CHANNELS // 2
    shift = nn.BatchNorm2d(CHANNELS, affine=False, eps=0.0).eval()
    shift.running_mean.copy_(threshold)
    signs = signs_of([shift], CHANNELS, ENTRIES, None, None, None, 1)
    assert bits_of(signs, threshold[:1])[0, 0] == 1.0
    for channel, at in enumerate(threshold):
        assert bits_of(signs, torch.stack([at - 1, at]))[:, channel].tolist() == [-1.0, 1.0]


@pytest.mark.parametrize(("overflow", "low", "high"), [("wrap", -8, 7), ("saturate", -8, 7)])
@torch.no_grad()
def test_sums_are_what_the_accumulator_holds(overflow, low, high):
    accumulator = Accumulator(bits=4, overflow=overflow)
    assert_right([norm(torch.randn(CHANNELS))], torch.randn(CHANNELS), None, low, high, accumulator)


def test_a_cyclic_accumulator_holds_no_integers():
    assert signs_of([], CHANNELS, ENTRIES, None, None, Accumulator(bits=4, overflow="cyclic"), 1) is None


def test_several_intervals():
    assert_right([lambda x: torch.sin(x / 20 + 1)], None, None)
    assert_right([lambda x: torch.cos(x / 12)], torch.linspace(0.5, 1.5, CHANNELS), None)


def wave(x: torch.Tensor) -> torch.Tensor:
    return torch.sin(x / 3)


@torch.no_grad()
@pytest.mark.parametrize("function", [functional.gelu, wave])
def test_several_intervals_of_a_channel(function):
    """A GELU by oneDNN comes to -0 by rounding, and so has several."""
    scale = torch.full((CHANNELS,), 0.0198) + torch.rand(CHANNELS) * 1e-3
    signs = signs_of([function], CHANNELS, 768, scale, None, None, 1)
    assert len(signs.low) > 1 or function is not wave
    sums = torch.arange(-768.0, 769.0)
    expected = torch.where(function(sums[:, None] * scale) >= 0, 1.0, -1.0)
    assert torch.equal(bits_of(signs, sums), expected)


def test_what_takes_too_many_intervals_or_is_no_number_has_no_signs():
    assert signs_of([torch.sin], CHANNELS, ENTRIES, None, None, None, 1) is None
    assert signs_of([torch.log], CHANNELS, ENTRIES, None, None, None, 1) is None


@pytest.mark.parametrize("scale", [0.001, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("function", [functional.gelu, functional.silu, functional.mish, torch.tanh])
def test_far_below_0_gelu_and_its_kin_are_minus_0_which_is_positive(function, scale):
    assert_right([function], torch.linspace(scale, 2 * scale, CHANNELS), None)


@pytest.mark.filterwarnings("error")
@pytest.mark.skipif(not pc.kernels.is_built(), reason="the kernels were not built")
def test_a_linear_layer_does_not_read_the_bits_of_a_convolution():
    """It reads the last dimension of images, which has as many entries as there are channels."""
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1), nn.Linear(16, 16), nn.Conv2d(16, 4, 1)]
    model, x = pc.pack(binary(nn.Sequential(*layers), keep=None)), image(16)
    assert model.packing.fusion.regions[0].counts[BITS] == 1
    answer = model(x)
    assert torch.equal(answer, by_layers(model, x))
