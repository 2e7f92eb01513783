"""Convolutions of every kind and geometry against a weight made channel by channel and an input padded by hand."""

from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

import proxconnect as pc
from layer_kinds import channel_indices
from proxconnect import PAIRS
from proxconnect.layers import (
    BinaryConv1d,
    BinaryConv2d,
    BinaryConv3d,
    BinaryConvTranspose1d,
    BinaryConvTranspose2d,
    BinaryConvTranspose3d,
    BinaryLayer,
)

FORWARD = (BinaryConv1d, BinaryConv2d, BinaryConv3d)
TRANSPOSED = (BinaryConvTranspose1d, BinaryConvTranspose2d, BinaryConvTranspose3d)
CONVOLVE = (functional.conv1d, functional.conv2d, functional.conv3d)
CONVOLVE_BACK = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)
WEIGHTS = ("bnn++", "bnn", "bc", "poly", "pc")
ACTIVATIONS = (None, "bnn", "poly")


class Case(NamedTuple):
    """A layer's options, its input, and how the twin pads: (left, right) of each dimension, first to last."""

    options: dict[str, Any]
    input: Tensor
    border: list[tuple[int, int]]
    extra: tuple[int, ...]


def each(values: st.SearchStrategy[int], count: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*[values] * count)


@st.composite
def channels(draw: st.DrawFn) -> tuple[int, int, int]:
    """Channels in, channels out, groups."""
    groups = draw(st.integers(1, 3))
    return groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 3)), groups


def input_of(draw: st.DrawFn, in_channels: int, sizes: tuple[int, ...]) -> Tensor:
    batch = draw(st.sampled_from([(), (1,), (2,)]))
    torch.manual_seed(draw(st.integers(0, 999)))  # of the layer's parameters too
    return torch.randn(*batch, in_channels, *sizes, dtype=torch.float64)


@st.composite
def convolutions(draw: st.DrawFn, dims: int) -> Case:
    in_channels, out_channels, groups = draw(channels())
    kernel, dilation = draw(each(st.integers(1, 3), dims)), draw(each(st.integers(1, 2), dims))
    padding = draw(st.one_of(st.integers(0, 2), each(st.integers(0, 2), dims), st.sampled_from(["same", "valid"])))
    stride = (1,) * dims if padding == "same" else draw(each(st.integers(1, 3), dims))
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    sizes = tuple(max(3, r + 1) + draw(st.integers(0, 2)) for r in reach)  # 3, for a mirror needs more than its border
    activations = draw(st.sampled_from(ACTIVATIONS))
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    value = draw(st.sampled_from([0, 1, -1])) if activations and mode == "zeros" else 0
    options = {
        "in_channels": in_channels, "out_channels": out_channels, "kernel_size": kernel, "stride": stride,
        "padding": padding, "dilation": dilation, "groups": groups, "padding_mode": mode, "bias": draw(st.booleans()),
        "weights": draw(st.sampled_from(WEIGHTS)), "activations": activations, "padding_value": value,
    }  # fmt: skip
    if isinstance(padding, str):
        border = [(r // 2, r - r // 2) if padding == "same" else (0, 0) for r in reach]
    else:
        numbers = (padding,) * dims if isinstance(padding, int) else padding
        border = [(n, n) for n in numbers]
    return Case(options, input_of(draw, in_channels, sizes), border, ())


@st.composite
def transposed_convolutions(draw: st.DrawFn, dims: int, by_size: bool = False) -> Case:
    in_channels, out_channels, groups = draw(channels())
    kernel, dilation = draw(each(st.integers(1, 3), dims)), draw(each(st.integers(1, 2), dims))
    stride, padding = draw(each(st.integers(1, 3), dims)), draw(each(st.integers(0, 1), dims))
    most = stride if by_size else map(max, stride, dilation)  # torch's own bounds
    extra = tuple(draw(st.integers(0, most_extra - 1)) for most_extra in most)
    sizes = draw(each(st.integers(3, 4), dims))
    options = {
        "in_channels": in_channels, "out_channels": out_channels, "kernel_size": kernel, "stride": stride,
        "padding": padding, "dilation": dilation, "groups": groups, "bias": draw(st.booleans()),
        "weights": draw(st.sampled_from(WEIGHTS)), "activations": draw(st.sampled_from(ACTIVATIONS)),
    }  # fmt: skip
    return Case(options, input_of(draw, in_channels, sizes), [], extra)


def twin_weight(layer: Any, latent: Tensor) -> Tensor:
    """α·F(w*/ᾱ) with the gradient (α/ᾱ)·B, channel by channel; in eval() F is the sign."""
    pair, mu = layer.weight_quantizer.pair, float(layer.weight_quantizer.mu)
    weight = torch.zeros_like(latent)
    for index in channel_indices(layer):
        values = latent[index].detach()
        magnitude = values.abs().sum() / values.numel()
        x = values / magnitude
        f = pair.forward(x, mu) if layer.training else torch.where(values < 0, -1.0, 1.0).double()
        alpha = (values * f).sum() / (f * f).sum()
        moves = latent[index] - values  # 0, with gradient 1
        weight[index] = alpha * f + alpha / magnitude * pair.backward(x, mu) * moves
    return weight


def twin_input(layer: Any, input: Tensor) -> Tensor:
    if layer.input_quantizer is None:
        return input
    pair, values = layer.input_quantizer.pair, input.detach()
    return torch.where(values < 0, -1.0, 1.0).double() + pair.backward(values, 1.0) * (input - values)


def padded_by_hand(input: Tensor, border: list[tuple[int, int]], mode: str, value: int) -> Tensor:
    """Each dimension's entries taken by their place in the padded one."""
    for axis, (left, right) in enumerate(border, start=input.dim() - len(border)):
        size = input.shape[axis]
        places = torch.arange(-left, size + right)
        outside = (places < 0) | (places >= size)
        mirrored = torch.where(places < 0, -places, places)
        taken = {
            "reflect": torch.where(mirrored >= size, 2 * (size - 1) - mirrored, mirrored),
            "circular": places % size,
        }.get(mode, places.clamp(0, size - 1))
        input = input.index_select(axis, taken)
        if mode == "zeros":
            shape = [-1 if d == axis else 1 for d in range(input.dim())]
            input = torch.where(outside.view(shape), float(value), input)
    return input


def agree(layer: BinaryLayer, x: Tensor, output: Tensor, latent: Tensor, expected: Tensor) -> None:
    assert torch.allclose(output, expected, rtol=1e-12, atol=1e-12)
    g = torch.randn_like(output)
    ours = torch.autograd.grad(output, [layer.latent, x], g)
    theirs = torch.autograd.grad(expected, [latent, x], g)
    assert all(torch.allclose(a, b, rtol=1e-11, atol=1e-11) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("dims", [1, 2, 3])
@settings(max_examples=35)
@given(data=st.data())
def test_a_convolution_is_torch_s_on_the_twin_s_weight_and_input(dims: int, data: st.DataObject) -> None:
    case = data.draw(convolutions(dims))
    layer = FORWARD[dims - 1](**case.options, dtype=torch.float64)
    x = case.input.requires_grad_()
    for training in (True, False):
        layer.train(training)
        latent = layer.latent.detach().clone().requires_grad_()
        options = case.options
        padded = padded_by_hand(twin_input(layer, x), case.border, options["padding_mode"], options["padding_value"])
        weight = twin_weight(layer, latent)
        expected = CONVOLVE[dims - 1](
            padded, weight, layer.bias, options["stride"], 0, options["dilation"], options["groups"]
        )
        agree(layer, x, layer(x), latent, expected)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("by_size", [False, True])
@settings(max_examples=25)
@given(data=st.data())
def test_a_transposed_convolution_is_torch_s_on_the_twin_s_weight(
    dims: int, by_size: bool, data: st.DataObject
) -> None:
    """What is added at the end is told by `output_padding`, or by the `output_size` of the call."""
    case = data.draw(transposed_convolutions(dims, by_size))
    options, x = case.options, case.input.requires_grad_()
    told = {} if by_size else {"output_padding": case.extra}
    layer = TRANSPOSED[dims - 1](**options, **told, dtype=torch.float64)
    for training in (True, False):
        layer.train(training)
        latent = layer.latent.detach().clone().requires_grad_()
        expected = CONVOLVE_BACK[dims - 1](
            twin_input(layer, x), twin_weight(layer, latent), layer.bias, options["stride"], options["padding"],
            case.extra, options["groups"], options["dilation"],
        )  # fmt: skip
        size = list(expected.shape[-dims:]) if by_size else None
        agree(layer, x, layer(x, output_size=size), latent, expected)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True])
@settings(max_examples=25)
@given(data=st.data())
def test_the_float_layer_takes_the_hard_weights_and_answers_as_eval_does(
    dims: int, transposed: bool, data: st.DataObject
) -> None:
    case = data.draw((transposed_convolutions if transposed else convolutions)(dims))
    binary_type = (TRANSPOSED if transposed else FORWARD)[dims - 1]
    options = {key: value for key, value in case.options.items() if key not in ("activations", "padding_value")}
    layer = binary_type(**options)
    del options["weights"]
    plain = binary_type.float_type(**options)
    plain.load_state_dict(pc.hard_state_dict(layer), strict=True)
    x = case.input.float()
    assert torch.equal(plain(x), layer.eval()(x))


@pytest.mark.parametrize("binary_type", TRANSPOSED)
def test_a_transposed_convolution_pads_with_zeros_alone(binary_type: Any) -> None:
    with pytest.raises(ValueError, match="zeros"):
        binary_type(2, 2, 3, padding_mode="circular")


@pytest.mark.parametrize("binary_type", FORWARD + TRANSPOSED)
@pytest.mark.parametrize("name", PAIRS)
def test_a_channel_has_its_own_scale_in_every_pair_and_form(binary_type: Any, name: str) -> None:
    """Channels apart by powers of two give weights apart by those: no entry of another channel enters a scale."""
    layer = binary_type(4, 6, 2, groups=2, weights=name, dtype=torch.float64)
    parts = channel_indices(layer)
    with torch.no_grad():
        before = [layer.weight[index].clone() for index in parts]
        for o, index in enumerate(parts):
            layer.latent[index] *= 2.0**o
        assert all(torch.equal(layer.weight[index], before[o] * 2.0**o) for o, index in enumerate(parts))


def test_a_packed_transposed_convolution_takes_an_output_size() -> None:
    layer, x = BinaryConvTranspose2d(2, 2, 3, stride=2, activations="bnn++").eval(), torch.randn(1, 2, 4, 4)
    packed = pc.pack(layer)
    assert torch.equal(packed(x, output_size=[10, 9]), layer(x, [10, 9]))


def test_an_output_size_that_no_input_has_is_torch_s_error() -> None:
    layer = BinaryConvTranspose2d(2, 2, 3, stride=2)
    with pytest.raises(ValueError, match="output size"):
        layer(torch.randn(1, 2, 4, 4), [99, 99])
    assert isinstance(layer, nn.ConvTranspose2d)
