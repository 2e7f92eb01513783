"""A binary layer is its torch counterpart on the quantised weight and input, and nothing else."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from looped import looped
from proxconnect import PAIRS, BinaryConv2d, BinaryLinear

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
GEOMETRIES: list[dict[str, Any]] = [
    {},
    {"stride": 2, "padding": 1},
    {"dilation": 2, "padding": 2, "groups": 2},
    {"groups": 4, "padding": (2, 0), "stride": (1, 3)},
    {"padding": "same", "dilation": (1, 2)},
    {"padding": "valid", "groups": 2},
    {"bias": False, "padding": "same", "kernel_size": (2, 4)},
]
every_name = pytest.mark.parametrize("name", PAIRS)


def scaled(latent: Tensor, name: str, scale: str | None, mu: float) -> Tensor:
    """αF(w*/ᾱ) by plain torch, with one autograd step for the factor (α/ᾱ)B."""
    dims = list(range(1 if scale == "channel" else 0, latent.dim()))
    alpha_bar = latent.detach().abs().mean(dims, keepdim=True) if scale else torch.ones((), dtype=latent.dtype)
    x = (latent / alpha_bar).detach()
    f, b = PAIRS[name].forward(x, mu), PAIRS[name].backward(x, mu)
    alpha = (latent.detach() * f).sum(dims, keepdim=True) / (f * f).sum(dims, keepdim=True) if scale else alpha_bar
    straight = latent * (b * alpha / alpha_bar)
    return (alpha * f - straight).detach() + straight


def agree(
    module: nn.Module, latent: Tensor, x: Tensor, output: Tensor, expected: Tensor, expected_latent: Tensor
) -> None:
    assert torch.allclose(output, expected, rtol=1e-12, atol=1e-12)
    g = torch.randn_like(output)
    ours = torch.autograd.grad(output, [latent, x], g)
    theirs = torch.autograd.grad(expected, [expected_latent, x], g)
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-12) for a, b in zip(ours, theirs, strict=True))


@every_name
@looped(scale=["channel", "tensor", None])
@looped(activations=[None, "bnn++", "bnn"])
def test_linear(name: str, scale: str | None, activations: str | None) -> None:
    layer = BinaryLinear(6, 4, dtype=torch.float64, weights=name, scale=scale, activations=activations)  # type: ignore[arg-type]
    layer.weight_quantizer.mu.fill_(2.0)
    x = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    latent = layer.latent.detach().clone().requires_grad_()
    mu = float(layer.input_quantizer.mu) if layer.input_quantizer else 1.0
    expected = functional.linear(
        scaled(x, activations, None, mu) if activations else x, scaled(latent, name, scale, 2.0), layer.bias
    )
    agree(layer, layer.latent, x, layer(x), expected, latent)


@pytest.mark.covering
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("padding_mode", PADDING_MODES)
@pytest.mark.parametrize("activations", [None, "bnn++"])
def test_convolution(geometry: dict[str, Any], padding_mode: str, activations: str | None) -> None:
    options = {"kernel_size": 3, "dtype": torch.float64} | geometry
    layer = BinaryConv2d(4, 8, **options, padding_mode=padding_mode, activations=activations)
    plain = nn.Conv2d(4, 8, **options, padding_mode=padding_mode)
    for shape in ((2, 4, 9, 8), (4, 9, 8)):
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        latent = layer.latent.detach().clone().requires_grad_()
        weight = scaled(latent, "bnn++", "channel", float(layer.weight_quantizer.mu))
        quantised = scaled(x, activations, None, float(layer.input_quantizer.mu)) if layer.input_quantizer else x
        parameters = {"weight": weight} | ({} if layer.bias is None else {"bias": layer.bias})
        expected = torch.func.functional_call(plain, parameters, (quantised,))
        agree(layer, layer.latent, x, layer(x), expected, latent)


@pytest.mark.covering
@pytest.mark.parametrize("value", [-1, 0, 1])
@pytest.mark.parametrize(
    ("geometry", "border"),
    [
        ({"padding": 1}, (1, 1, 1, 1)),
        ({"padding": (2, 1), "stride": 2, "groups": 2}, (1, 1, 2, 2)),
        ({"padding": "same"}, (1, 1, 1, 1)),
        ({"padding": "same", "dilation": (1, 2), "kernel_size": (3, 4)}, (3, 3, 1, 1)),
        ({"padding": "same", "kernel_size": (2, 4)}, (1, 2, 0, 1)),
        ({"padding": "valid"}, (0, 0, 0, 0)),
        ({}, (0, 0, 0, 0)),
    ],
    ids=str,
)
@pytest.mark.parametrize("training", [True, False])
def test_the_padding_value_is_an_explicit_pad(
    value: int, geometry: dict[str, Any], border: tuple[int, ...], training: bool
) -> None:
    options = {"kernel_size": 3, "dtype": torch.float64} | geometry
    layer = BinaryConv2d(4, 6, **options, activations="bnn", padding_value=value).train(training)
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    padded = functional.pad(torch.where(x < 0, -1.0, 1.0).double(), border, value=float(value))
    expected = functional.conv2d(padded, layer.weight, layer.bias, layer.stride, 0, layer.dilation, layer.groups)
    assert torch.allclose(layer(x), expected, rtol=1e-13, atol=1e-13)


def test_a_padding_value_needs_a_binary_input_and_zero_padding() -> None:
    with pytest.raises(ValueError, match="0, 1 or -1; got 2"):
        BinaryConv2d(2, 2, 3, activations="bnn", padding_value=2)
    with pytest.raises(ValueError, match="set activations"):
        BinaryConv2d(2, 2, 3, padding_value=1)
    with pytest.raises(ValueError, match="padding_mode='zeros', the layer has 'circular'"):
        BinaryConv2d(2, 2, 3, padding=1, activations="bnn", padding_mode="circular", padding_value=-1)


def test_a_converted_convolution_takes_a_padding_value() -> None:
    layer = BinaryConv2d.convert(nn.Conv2d(2, 2, 3, padding=1), activations="bnn")
    assert layer.padding_value == 0
    layer.set_padding_value(1)
    border = functional.pad(torch.ones(1, 2, 4, 4), (1, 1, 1, 1), value=1.0)
    assert torch.equal(layer(torch.ones(1, 2, 4, 4)), functional.conv2d(border, layer.weight, layer.bias))


@pytest.mark.parametrize(("training", "scale"), list(itertools.product([True, False], ["channel", "tensor", None])))
def test_fp_is_the_float_layer_to_the_bit(training: bool, scale: str | None) -> None:
    linear = BinaryLinear(6, 4, weights="fp", scale=scale)  # type: ignore[arg-type]
    convolution = BinaryConv2d(4, 6, 3, padding=1, weights="fp", scale=scale)  # type: ignore[arg-type]
    cases = [
        (linear, nn.Linear(6, 4), torch.randn(3, 6)),
        (convolution, nn.Conv2d(4, 6, 3, padding=1), torch.randn(2, 4, 5, 5)),
    ]
    for binary, plain, x in cases:
        binary.load_state_dict(plain.state_dict(), strict=True)
        binary.train(training)
        ours, theirs = binary(x), plain(x)
        assert torch.equal(ours, theirs)
        ours.square().sum().backward()
        theirs.square().sum().backward()
        assert torch.equal(binary.latent.grad, plain.weight.grad)
        assert torch.equal(binary.bias.grad, plain.bias.grad)


@every_name
@looped(scale=["channel", "tensor", None])
def test_eval_is_hard(name: str, scale: str | None) -> None:
    layer = BinaryLinear(6, 4, weights=name, scale=scale, activations="bnn++").eval()  # type: ignore[arg-type]
    x = torch.randn(5, 6)
    signs = torch.where(x < 0, -1.0, 1.0)
    alpha_bar = {"channel": layer.latent.abs().mean(1, keepdim=True), "tensor": layer.latent.abs().mean(), None: 1.0}
    hard = (alpha_bar[scale] * torch.where(layer.latent < 0, -1.0, 1.0)).detach()
    assert torch.allclose(layer.binary_weight, hard, rtol=1e-6, atol=0)
    expected = layer.latent if name == "fp" else layer.binary_weight
    assert torch.equal(layer.weight, expected)
    if name == "fp":
        assert torch.equal(layer(x), functional.linear(signs, layer.latent, layer.bias))
    else:  # sums of signs are scaled, exactly as kernels do
        sums, alpha = signs @ layer.binary_weight.sign().T, layer.binary_weight.abs()[:, 0]
        assert torch.equal(layer(x), sums * alpha + layer.bias)
    before = layer.binary_weight
    assert torch.equal(layer.train().binary_weight, before)


@every_name
def test_gradients_flow_in_eval_with_backward_of_the_pair(name: str) -> None:
    """Attribution: the input's gradient is through the hard weight, the latent's through B."""
    layer = BinaryLinear(6, 4, weights=name, scale=None, bias=False).eval()
    layer.weight_quantizer.mu.fill_(2.0)
    x = torch.randn(5, 6, requires_grad=True)
    layer(x).sum().backward()
    assert torch.allclose(x.grad, layer.weight.detach().sum(0).expand(5, 6), atol=1e-6)
    b = PAIRS[name].backward(layer.latent.detach(), 2.0)
    assert torch.allclose(layer.latent.grad, x.detach().sum(0).expand(4, 6) * b, atol=1e-6)


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("name", ["bnn++", "bc", "fp"])
def test_initialises_as_the_float_layer(name: str, seed: int) -> None:
    for binary_type, plain_type, sizes in ((BinaryLinear, nn.Linear, (6, 4)), (BinaryConv2d, nn.Conv2d, (4, 6, 3))):
        torch.manual_seed(seed)
        plain = plain_type(*sizes)
        torch.manual_seed(seed)
        binary = binary_type(*sizes, weights=name)
        for again in (False, True):
            if again:
                torch.manual_seed(seed + 1)
                plain.reset_parameters()
                torch.manual_seed(seed + 1)
                binary.eval().reset_parameters()
            assert torch.equal(binary.latent, plain.weight)
            assert torch.equal(binary.bias, plain.bias)
        assert binary.weight_quantizer.override is None
