"""Accumulators against machine integers, and layers that hold their sums in one."""

import math
import pickle
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

import proxconnect as pc
from layer_kinds import KINDS, Kind, channel_indices, over_channels
from proxconnect import PAIRS
from proxconnect.layers import (
    Accumulator,
    BinaryConv2d,
    BinaryLayer,
    BinaryLinear,
    BinaryMultiheadAttention,
    binarize_parameter,
)
from proxconnect.layers.attention import BinaryProjection

OVERFLOWS = ("wrap", "saturate", "cyclic")
LONG = 602
"""Inputs of a layer whose sums pass 256, beyond which bfloat16 leaves out integers, and 512."""
WIDE = Accumulator(24, "saturate")
"""One that never overflows here."""

bits_from_2_to_24 = st.integers(2, 24)
every_overflow = pytest.mark.parametrize("overflow", OVERFLOWS)
every_kind = pytest.mark.parametrize("kind", KINDS)
every_scale = pytest.mark.parametrize("scale", ["channel", "tensor", "learned", None])


def held(z: int, accumulator: Accumulator) -> float:
    """What a register of that width holds of z; for "cyclic" with the activation of arXiv 2007.13242, case by case."""
    m, k = 1 << (accumulator.bits - 1), accumulator.slope
    if accumulator.overflow == "saturate":
        return min(max(z, -m), m - 1)
    wrapped = ((z & (2 * m - 1)) ^ m) - m
    if accumulator.overflow == "wrap" or -k * m / (k + 1) <= wrapped <= k * m / (k + 1):
        return wrapped
    return k * m - k * wrapped if wrapped > 0 else -k * m - k * wrapped


def all_held(sums: Tensor, accumulator: Accumulator) -> Tensor:
    values = [held(int(z), accumulator) for z in sums.flatten()]
    return torch.tensor(values, dtype=torch.float64).reshape(sums.shape)


@given(seed=st.integers(0, 999), length=st.integers(1, 3000), bias=st.floats(0, 1))
def test_wrapping_is_8_bit_addition_in_any_order(seed: int, length: int, bias: float) -> None:
    random = np.random.default_rng(seed)
    products = np.where(random.random(length) < bias, 1, -1).astype(np.int8)
    exact = torch.tensor(float(products.sum(dtype=np.int64)))
    for _ in range(3):
        last = np.cumsum(random.permutation(products), dtype=np.int8)[-1]
        assert Accumulator(8, "wrap")(exact) == int(last)


@every_overflow
@given(z=st.lists(st.integers(-(1 << 24) + 1, (1 << 24) - 1), min_size=1), bits=bits_from_2_to_24)
def test_integers_are_held_as_a_register_holds_them(overflow: Any, z: list[int], bits: int) -> None:
    accumulator = Accumulator(bits, overflow)
    sums = torch.tensor(z, dtype=torch.float64)
    expected = torch.tensor([held(value, accumulator) for value in z], dtype=torch.float64)
    assert torch.equal(accumulator(sums), expected)
    m = 1 << (bits - 1)
    assert accumulator.overflows(sums).tolist() == [not -m <= value <= m - 1 for value in z]


@every_overflow
@pytest.mark.parametrize("bits", [2, 8, 16, 24])
def test_float32_is_exact_at_the_edges(overflow: Any, bits: int) -> None:
    m = 1 << (bits - 1)
    z = [e + d for e in (-2 * m, -m, 0, m, 2 * m) for d in (-1, 0, 1) if abs(e + d) <= 1 << 24]
    accumulator = Accumulator(bits, overflow)
    assert accumulator(torch.tensor(z, dtype=torch.float32)).tolist() == [held(value, accumulator) for value in z]


@pytest.mark.covering
@every_overflow
@pytest.mark.parametrize("bits", [2, 8, 16, 24])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_soft_sum_that_fits_is_held_as_it_is(overflow: Any, bits: int, dtype: torch.dtype) -> None:
    """Up to the bend of the cyclic activation; adding M before the modulus would round it."""
    small = torch.empty(200, dtype=dtype).uniform_(-0.6, 0.6)
    sums = torch.cat([small, small * (2 ** (bits - 1) - 1)])
    assert torch.equal(Accumulator(bits, overflow)(sums), sums)


@pytest.mark.parametrize("overflow", ["wrap", "cyclic"])
@given(z=st.integers(-500, 500), turns=st.integers(-20, 20), bits=st.integers(2, 10), slope=st.floats(0.1, 9))
def test_only_the_wrapped_sum_counts(overflow: Any, z: int, turns: int, bits: int, slope: float) -> None:
    accumulator = Accumulator(bits, overflow, slope)
    sums = torch.tensor([z, z + turns * (1 << bits)], dtype=torch.float64)
    first, second = accumulator(sums)
    assert first == second


@pytest.mark.parametrize("slope", [0.25, 1.0, 2.0, 7.0])
def test_cyclic_is_continuous_and_bends_where_the_paper_says(slope: float) -> None:
    """A step h changes it by max(1, k)·h at most, over several turns; a jump would show."""
    accumulator, step = Accumulator(4, "cyclic", slope), 1e-3
    values = accumulator(torch.arange(-40, 40, step, dtype=torch.float64))
    assert values.diff().abs().max() <= max(1.0, slope) * step + 1e-12
    peak = 8 * slope / (slope + 1)
    assert math.isclose(float(values.max()), peak, abs_tol=slope * step + step)
    edges = torch.tensor([-8.0, 8.0, 8.0 - 1e-9, -8.0 - 1e-9], dtype=torch.float64)
    assert accumulator(edges).abs().max() < 1e-8 * slope + 1e-12
    jump = Accumulator(4, "wrap")(edges)
    assert (jump[2] - jump[1]).abs() > 15, "the control: a wrap does jump there"


@pytest.mark.parametrize("slope", [1e-3, 0.25, 2.0, 1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cyclic_is_0_where_it_wraps(slope: float, dtype: torch.dtype) -> None:
    assert not Accumulator(8, "cyclic", slope)(torch.tensor([-384, -128, 128, 384], dtype=dtype)).any()


@every_overflow
@pytest.mark.parametrize("slope", [0.5, 2.0])
def test_derivatives_are_those_of_the_map(overflow: Any, slope: float) -> None:
    accumulator, h = Accumulator(4, overflow, slope), 1e-6
    z = torch.empty(500, dtype=torch.float64).uniform_(-30, 30)
    bend = 8 * slope / (slope + 1)
    around = torch.remainder(z + 8, 16) - 8
    kinks = [(z + 8).abs(), (z - 7).abs(), around + 8, 8 - around, (around.abs() - bend).abs()]
    z = z[torch.stack(kinks).amin(0) > 1e-3].requires_grad_()
    (gradient,) = torch.autograd.grad(accumulator(z).sum(), z)
    with torch.no_grad():
        numeric = (accumulator(z + h) - accumulator(z - h)) / (2 * h)
    assert torch.allclose(gradient, numeric, rtol=0, atol=1e-7)
    assert set(gradient.tolist()) == {"wrap": {1.0}, "saturate": {0.0, 1.0}, "cyclic": {1.0, -slope}}[overflow]


def long_layer(kind: Kind, scale: Any, accumulator: Accumulator | None, dtype: torch.dtype) -> BinaryLayer:
    """A layer of large sums, hard; its scales are powers of two and its biases quarters, so that nothing rounds."""
    layer = kind.binary(LONG, dtype, weights="bnn", activations="bnn", scale=scale, accumulator=accumulator)
    with torch.no_grad():
        signs = torch.where(torch.rand(layer.latent.shape) < 0.9, 1.0, -1.0)
        for o, index in enumerate(channel_indices(layer)):
            signs[index] *= 0.5 if scale == "tensor" else power(o)
        layer.latent.copy_(signs)
        layer.bias.copy_(torch.arange(len(layer.bias)) / 4)
        if layer.weight_quantizer.alpha is not None:
            alpha = [power(o) * (-1) ** o for o in range(layer.weight_quantizer.alpha.numel())]
            layer.weight_quantizer.alpha.copy_(torch.tensor(alpha).view_as(layer.weight_quantizer.alpha))
    return layer.eval()


def power(channel: int) -> float:
    return 2.0 ** -(channel % 3)


def long_input(kind: Kind, dtype: torch.dtype) -> Tensor:
    """Mostly positive in the first example, mostly negative in the second."""
    return ((kind.input(LONG) + 1.5) * torch.tensor([1.0, -1.0]).view(2, *[1] * (1 + len(kind.sizes)))).to(dtype)


def integer_sums(kind: Kind, layer: BinaryLayer, x: Tensor) -> Tensor:
    """The sums of ±1 products by the float layer in float64, where they are exact."""
    plain = kind.make(LONG).double()
    with torch.no_grad():
        plain.weight.copy_(torch.where(layer.latent < 0, -1.0, 1.0))
        plain.bias.zero_()
        return plain(torch.where(x < 0, -1.0, 1.0).double()).round().long()


def scaled(sums: Tensor, kind: Kind, layer: BinaryLayer, scale: Any) -> Tensor:
    """Sums times the scale of their channel, plus the bias."""
    count = len(layer.bias)
    alpha = {
        "tensor": [0.5] * count,
        None: [1.0] * count,
        "channel": [power(o) for o in range(count)],
        "learned": [power(o) * (-1) ** o for o in range(count)],
    }[scale]
    bias = layer.bias.detach().double()
    return sums * over_channels(torch.tensor(alpha).double(), sums, kind) + over_channels(bias, sums, kind)


@pytest.mark.covering
@every_kind
@every_scale
@pytest.mark.parametrize("accumulator", [*(Accumulator(8, o) for o in OVERFLOWS), Accumulator(5, "cyclic", 0.5)])  # type: ignore[arg-type]
def test_hard_layers_hold_integer_sums(kind: str, scale: Any, accumulator: Accumulator) -> None:
    layer, x = long_layer(KINDS[kind], scale, accumulator, torch.float32), long_input(KINDS[kind], torch.float32)
    sums = integer_sums(KINDS[kind], layer, x)
    assert (sums.abs() > 256).any()
    assert accumulator.overflows(sums).any()
    expected = scaled(all_held(sums, accumulator), KINDS[kind], layer, scale).float()
    assert torch.equal(layer(x), expected)
    with pc.hard(layer.train()):
        assert torch.equal(layer(x), expected)


@pytest.mark.covering
@every_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@every_scale
def test_half_precision_keeps_the_sums_exact(kind: str, dtype: torch.dtype, scale: Any) -> None:
    """One rounding, of the answer. Sums of an even count are even, and bfloat16 lacks even ones from 512 on."""
    accumulator = Accumulator(8)
    layer, x = long_layer(KINDS[kind], scale, accumulator, dtype), long_input(KINDS[kind], dtype)
    sums = integer_sums(KINDS[kind], layer, x)
    expected = scaled(all_held(sums, accumulator), KINDS[kind], layer, scale).to(dtype)
    for autocast in (None, torch.bfloat16, torch.float16):
        with torch.autocast("cpu", autocast) if autocast else nullcontext():
            assert torch.equal(layer(x), expected), autocast


@pytest.mark.parametrize(("dtype", "length"), [(torch.bfloat16, 601), (torch.float16, 4501)])
def test_the_control_half_precision_sums_would_give_another_answer(dtype: torch.dtype, length: int) -> None:
    """Odd sums beyond 256 (bfloat16) or 2048 (float16) are no numbers of those dtypes."""
    layer = BinaryLinear(length, 4, False, dtype=dtype, activations="bnn", scale=None, accumulator=Accumulator(8))
    layer.latent.detach().abs_().neg_().sub_(1)
    flips = torch.arange(length).expand(4, -1) < torch.tensor([[0], [1], [20], [50]])
    x = torch.where(flips, 1.0, -1.0).to(dtype)
    sums = length - 2 * torch.tensor([0, 1, 20, 50]).view(4, 1).expand(4, 4)
    assert torch.equal(layer.eval()(x).double(), all_held(sums, Accumulator(8)))
    rounded = functional.linear(x, layer.binary_weight)
    assert not torch.equal(Accumulator(8)(rounded).double(), all_held(sums, Accumulator(8)))


@pytest.mark.parametrize("same", [True, False])
@every_overflow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_projections_hold_integer_sums(same: bool, overflow: Any, dtype: torch.dtype) -> None:
    accumulator = Accumulator(8, overflow)
    latent = torch.where(torch.rand(12, LONG) < 0.9, 1.0, -1.0) * torch.tensor([1.0, 0.5, 0.25]).repeat(4)[:, None]
    projection = BinaryProjection(nn.Parameter(latent.to(dtype)), activations="bnn", accumulator=accumulator).eval()
    inputs = [(torch.randn(2, 5, LONG) + shift).to(dtype) for shift in (1.5, -1.5, 1.0)]
    inputs = inputs[:1] if same else inputs
    bias = (torch.arange(12) / 4).to(dtype)
    answers = projection(*inputs, bias=bias)
    for block, (x, answer) in enumerate(zip(inputs, answers, strict=True)):
        rows = slice(block * 12 // len(inputs), (block + 1) * 12 // len(inputs))
        signs = torch.where(x < 0, -1, 1)
        sums = signs @ torch.where(latent[rows] < 0, -1, 1).T
        expected = all_held(sums, accumulator) * latent[rows].abs().double()[:, 0] + bias[rows].double()
        assert torch.equal(answer, expected.to(dtype))


@pytest.mark.parametrize("value", [-1, 1])
def test_a_padding_value_is_part_of_the_sums(value: int) -> None:
    accumulator = Accumulator(4)
    layer = BinaryConv2d(6, 3, 3, padding=1, activations="bnn", scale=None, padding_value=value, bias=False,
                         accumulator=accumulator).eval()  # fmt: skip
    x = torch.randn(2, 6, 4, 4)
    padded = functional.pad(torch.where(x < 0, -1.0, 1.0), (1, 1, 1, 1), value=float(value)).double()
    sums = functional.conv2d(padded, layer.binary_weight.double()).round().long()
    assert torch.equal(layer(x).double(), all_held(sums, accumulator))


@every_overflow
def test_127_products_never_overflow_8_bits_and_128_do(overflow: Any) -> None:
    for length, top in ((127, 127.0), (128, {"wrap": -128.0, "saturate": 127.0, "cyclic": 0.0}[overflow])):
        options: Any = {"activations": "bnn", "scale": None, "bias": False}
        layer = BinaryLinear(length, 3, **options, accumulator=Accumulator(8, overflow, 200.0)).eval()
        free = BinaryLinear(length, 3, **options).eval()
        free.load_state_dict(layer.state_dict())
        signs = layer.binary_weight
        x = torch.cat([signs, -signs, torch.randn(5, length)])
        assert torch.equal(layer(x), free(x)) == (length == 127)
        assert torch.equal(layer(signs).diagonal(), torch.full((3,), top))


def pair_of_layers(kind: Kind, **options: Any) -> Iterator[BinaryLayer]:
    """Two with equal state in float64, without an accumulator and with one that never overflows."""
    first = kind.binary(6, torch.float64, activations="bnn", **options)
    second = kind.binary(6, torch.float64, activations="bnn", **options, accumulator=WIDE)
    second.load_state_dict(first.state_dict())
    return iter((first, second))


def answers_and_gradients(layer: BinaryLayer, x: Tensor, g: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    output = layer(x)
    return [output, *torch.autograd.grad(output, [x, *layer.parameters()], g)]


@pytest.mark.covering(together=("kind scale", "name scale"))
@every_kind
@every_scale
@pytest.mark.parametrize("name", [name for name in PAIRS if name != "fp"])
def test_an_accumulator_that_never_overflows_changes_no_answer_and_no_gradient(
    kind: str, scale: Any, name: str
) -> None:
    free, wide = pair_of_layers(KINDS[kind], weights=name, scale=scale)
    x = KINDS[kind].input(6, torch.float64)
    g = torch.randn_like(free(x))
    for training in (True, False):
        ours, theirs = (answers_and_gradients(layer.train(training), x, g) for layer in (free, wide))
        for a, b in zip(ours, theirs, strict=True):
            assert torch.allclose(a, b, rtol=1e-11, atol=1e-11), training


@every_overflow
@pytest.mark.parametrize("training", [True, False])
def test_gradients_pass_through_the_map(overflow: Any, training: bool) -> None:
    """Against (map)'(z)·α·g by the chain rule, for F = sign; B = 1 leaves the latent's factor at 1."""
    accumulator = Accumulator(3, overflow)
    layer = BinaryLinear(9, 4, dtype=torch.float64, weights="bc", activations="bc", accumulator=accumulator)
    x = torch.randn(7, 9, dtype=torch.float64, requires_grad=True)
    g = torch.randn(7, 4, dtype=torch.float64)
    output = layer.train(training)(x)
    ours = torch.autograd.grad(output, [layer.latent, x], g)
    signs, inputs = torch.where(layer.latent < 0, -1.0, 1.0).double(), torch.where(x < 0, -1.0, 1.0).double()
    sums = (inputs @ signs.T).requires_grad_()
    (slopes,) = torch.autograd.grad(accumulator(sums).sum(), sums)
    alpha = layer.latent.detach().abs().mean(1)
    at_sums = slopes * alpha * g
    assert torch.allclose(ours[0], (at_sums.T @ inputs) / alpha[:, None], rtol=1e-12, atol=1e-12)
    assert torch.allclose(ours[1], at_sums @ signs, rtol=1e-12, atol=1e-12)


@every_kind
def test_full_precision_has_no_accumulator(kind: str) -> None:
    free, plain = KINDS[kind].binary(LONG, activations="bnn", accumulator=Accumulator(2)), KINDS[kind].make(LONG)
    plain.load_state_dict({"weight": free.latent.detach(), "bias": free.bias.detach()})
    x = long_input(KINDS[kind], torch.float32)
    for training in (True, False):
        with pc.full_precision(free.train(training)):
            assert torch.equal(free(x), plain(x))


@pytest.mark.covering
@pytest.mark.parametrize("accumulator", [None, WIDE])
@pytest.mark.parametrize("scale", ["channel", "learned"])
@pytest.mark.parametrize("name", [name for name in PAIRS if name != "fp"])
@pytest.mark.parametrize("training", [True, False])
def test_a_channel_of_zeros_weighs_nothing_and_has_the_factor_at_0(
    accumulator: Accumulator | None, scale: Any, name: str, training: bool
) -> None:
    """With a learned scale that started there, the scale is 0 and so is the gradient that passes it."""
    plain = nn.Linear(5, 3, dtype=torch.float64)
    plain.weight.detach()[1] = 0
    layer = BinaryLinear.convert(plain, weights=name, activations="bnn", scale=scale, accumulator=accumulator)
    x, g = torch.randn(4, 5, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    output = layer.train(training)(x)
    output.backward(g)
    assert torch.equal(output[:, 1], layer.bias[1].expand(4))
    signs = torch.where(x < 0, -1.0, 1.0).double()
    factor = float(PAIRS[name].backward(torch.zeros(()), float(layer.weight_quantizer.mu)))
    expected = g[:, 1] @ signs * factor * (scale == "channel")
    assert torch.allclose(layer.latent.grad[1], expected, rtol=1e-6, atol=1e-12)
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.covering
@every_kind
@every_scale
@every_overflow
def test_packed_layers_hold_the_same_sums(kind: str, scale: Any, overflow: Any, tmp_path: Path) -> None:
    layer = nn.Sequential(
        KINDS[kind].binary(LONG, activations="bnn", scale=scale, accumulator=Accumulator(8, overflow))
    )
    if scale == "learned":
        layer[0].weight_quantizer.alpha.detach().view(-1)[:2] = torch.tensor([-0.3, 0.0])
    x = long_input(KINDS[kind], torch.float32)
    packed = pc.pack(layer)
    pc.save(packed, tmp_path / "a")
    loaded = pc.load(tmp_path / "a", nn.Sequential(KINDS[kind].make(LONG)))
    with torch.no_grad():
        expected = layer.eval()(x)
        assert torch.equal(packed(x), expected)
        assert torch.equal(loaded(x), expected)
    assert packed[0].accumulator == loaded[0].accumulator == Accumulator(8, overflow)


@pytest.mark.parametrize("bits", [1, 0, -8, 25, True, 8.0, "8", None])
def test_wrong_widths(bits: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"bits must be an integer from 2 to 24|bits takes a whole"):
        Accumulator(bits)


@pytest.mark.parametrize("overflow", ["clamp", "WRAP", None, ""])
def test_unknown_overflows(overflow: Any) -> None:
    with pytest.raises(ValueError, match="overflow must be one of wrap, saturate, cyclic"):
        Accumulator(8, overflow)


@pytest.mark.parametrize("slope", [0, 0.0, -1.0, math.inf, math.nan])
def test_wrong_slopes(slope: float) -> None:
    with pytest.raises(ValueError, match="slope must be positive and at most 1000"):
        Accumulator(8, "cyclic", slope)


MAKERS = {
    "layer": lambda **options: BinaryLinear(3, 2, **options),
    "convolution": lambda **options: BinaryConv2d(3, 2, 1, **options),
    "attention": lambda **options: BinaryMultiheadAttention(4, 2, **options),
    "conversion": lambda **options: BinaryLinear.convert(nn.Linear(3, 2), **options),
    "binarize": lambda **options: pc.binarize(nn.Linear(3, 2), keep=None, **options),
}


@pytest.mark.parametrize("make", MAKERS)
def test_an_accumulator_needs_binary_inputs_and_to_be_one(make: str) -> None:
    with pytest.raises(ValueError, match="needs binary inputs: pass activations too"):
        MAKERS[make](accumulator=Accumulator(8))
    for wrong in (8, "wrap", Accumulator):
        with pytest.raises(TypeError, match=r"as Accumulator\(bits=8\)"):
            MAKERS[make](activations="bnn", accumulator=wrong)


def test_a_raw_parameter_takes_none() -> None:
    with pytest.raises(TypeError, match="accumulator"):
        binarize_parameter(nn.Linear(2, 2), "weight", accumulator=Accumulator(8))  # type: ignore[call-arg]


def test_it_is_a_value_that_prints_pickles_and_cannot_change() -> None:
    accumulator = Accumulator(6, "cyclic", 0.5)
    assert pickle.loads(pickle.dumps(accumulator)) == accumulator != Accumulator(6, "cyclic")
    assert str(accumulator) == "6-bit cyclic of slope 0.5"
    assert "accumulator=8-bit wrap" in repr(BinaryLinear(3, 2, activations="bnn", accumulator=Accumulator()))
    with pytest.raises(AttributeError):
        accumulator.bits = 8  # type: ignore[misc]


@every_overflow
def test_the_clamp_derivative_passes_what_fits_alone(overflow: Any) -> None:
    exact, clamped = (Accumulator(4, overflow, derivative=d) for d in ("exact", "clamp"))
    sums = torch.tensor([-30.0, -8.5, -8.0, -3.0, 0.0, 6.5, 7.0, 7.5, 100.0], requires_grad=True)
    assert torch.equal(clamped(sums), exact(sums))
    (gradient,) = torch.autograd.grad(clamped(sums).sum(), sums)
    assert gradient.tolist() == [0, 0, 1, 1, 1, 1, 1, 0, 0]


def test_wrong_derivatives() -> None:
    with pytest.raises(ValueError, match="derivative must be one of exact, clamp"):
        Accumulator(8, derivative="one")  # type: ignore[arg-type]


def test_a_layer_trains_by_the_clamp_derivative() -> None:
    """One output overflows, the other does not: only the second gets a gradient."""
    layer = BinaryLinear(6, 2, False, weights="bc", activations="bc", accumulator=Accumulator(3, derivative="clamp"))
    with torch.no_grad():
        layer.latent.copy_(torch.tensor([[1.0] * 6, [1.0, -1.0] * 3]))
    layer(torch.ones(1, 6)).sum().backward()
    assert layer.latent.grad[0].abs().sum() == 0  # type: ignore[index]
    assert layer.latent.grad[1].abs().min() > 0  # type: ignore[index]


@pytest.mark.parametrize("weights", ["bc", "bnn", "bnn++"])
@pytest.mark.parametrize("scale", ["channel", "tensor"])
def test_denormal_latents_have_finite_gradients(weights: str, scale: Any) -> None:
    """1/ᾱ overflows float32 there; α/ᾱ does not."""
    options: dict[str, Any] = {"weights": weights, "activations": "bnn", "scale": scale}
    layer = BinaryLinear(8, 2, **options, accumulator=WIDE)
    with torch.no_grad():
        layer.latent.normal_().mul_(1e-39)
    layer(torch.randn(3, 8)).sum().backward()
    assert layer.latent.grad.isfinite().all()  # type: ignore[union-attr]


def test_an_accumulator_without_a_binary_input_is_refused_by_binarize() -> None:
    for activations in (None, {"*": None}, "fp"):
        with pytest.raises(ValueError, match="an accumulator holds integer sums"):
            pc.binarize(nn.Sequential(nn.Linear(4, 4)), "bc", activations, accumulator=Accumulator(4), keep=None)
