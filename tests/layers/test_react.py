"""ReActNet's modules against their formulas."""

import pytest
import torch
from torch import nn

import proxconnect as pc
from proxconnect.layers.react import RPReLU, Shift


def rsign(x, threshold):
    """Liu 2020, equation 1, of images."""
    alpha = threshold[None, :, None, None]
    return torch.where(x >= alpha, 1.0, -1.0)


def rprelu(x, gamma, zeta, beta):
    """Liu 2020, equation 2, of images."""
    gamma, zeta, beta = (v[None, :, None, None] for v in (gamma, zeta, beta))
    return torch.where(x > gamma, x - gamma + zeta, beta * (x - gamma) + zeta)


@pytest.mark.parametrize(("dim", "shape"), [(1, (2, 3)), (1, (2, 3, 4, 5)), (-1, (2, 5, 3)), (-3, (3, 4, 5))])
def test_a_shift_adds_to_its_channels(dim, shape):
    shift, x = Shift(3, dim), torch.randn(shape)
    assert torch.equal(shift(x), x)
    with torch.no_grad():
        shift.shift.copy_(torch.tensor([1.0, 2.0, 3.0]))
    assert torch.equal(shift(x).movedim(dim, -1), x.movedim(dim, -1) + shift.shift)


def test_a_shift_and_a_binary_layer_are_rsign_and_a_product():
    shift, layer = Shift(3), pc.BinaryConv2d(3, 4, 3, padding=1, weights="bc", activations="poly")
    with torch.no_grad():
        shift.shift.normal_()
    x = torch.randn(2, 3, 5, 5)
    expected = nn.functional.conv2d(rsign(x, -shift.shift), layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(shift(x)), expected)


def test_rprelu_is_the_formula():
    module, x = RPReLU(3), torch.randn(2, 3, 4, 4)
    assert torch.equal(module(x), nn.PReLU(3)(x))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    down, slope, up = module
    torch.testing.assert_close(module(x), rprelu(x, -down.shift, up.shift, slope.weight))


def test_thresholds_learn():
    model = nn.Sequential(Shift(6, -1), pc.BinaryLinear(6, 4, activations="poly"), RPReLU(4))
    model(torch.randn(5, 6)).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


def test_dimension_0_is_refused():
    with pytest.raises(ValueError, match="dimension 0 is the batch"):
        Shift(3, dim=0)
