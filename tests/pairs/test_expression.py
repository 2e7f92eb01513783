"""Pairs in words."""

import pytest
import torch

from proxconnect import binarize
from proxconnect.pairs import PAIRS, prox, resolve, squashing, transform
from proxconnect.pairs.expression import PROXES, TRANSFORMS, parse

X = torch.linspace(-3, 3, 1201, dtype=torch.float64)


@pytest.mark.parametrize(
    ("text", "T", "P"),
    [
        ("clip of gap(1, 1)", squashing.clip, prox.gap(1.0, 1.0)),
        ("swish(0.5)  of gap( .2 )", squashing.swish(0.5), prox.gap(0.2)),
        ("identity of linear(0.4, 0.2)", transform.identity, prox.linear(0.4, 0.2)),
        ("spline(3, 1)", squashing.spline(3, 1), prox.identity),
        ("spline(2e0)", squashing.spline(2), prox.identity),
    ],
)
def test_words_name_a_transform_and_a_prox(text, T, P):
    pair = resolve(text)
    assert (pair.transform, pair.prox) == (T, P)
    assert resolve(pair.name) == pair


@pytest.mark.parametrize(
    ("name", "words"),
    [("bnn++", "sign_swish of identity"), ("bc", "identity of sign"), ("bnn", "hardtanh of outward"),
     ("parq", "identity of parq"), ("clip+", "clip of gap(0)"), ("md", "identity of tanh"), ("bnn++", "swish(1)")],
)  # fmt: skip
def test_pairs_of_the_catalogue_can_be_written_so(name, words):
    pair, other = PAIRS[name], resolve(words)
    for mu in (1.0, 2.7):
        for part in ("forward", "backward"):
            torch.testing.assert_close(getattr(pair, part)(X, mu), getattr(other, part)(X, mu), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clip of gp(1)", "unknown prox map 'gp' .*did you mean gap"),
        ("hardtan of gap(1)", "unknown transform 'hardtan' .*did you mean hardtanh"),
        ("clip(2) of gap(1)", "clip in .* takes no numbers: write clip"),
        ("clip of gap(one)", "'gap.one.' in .*could not convert"),
        ("clip of gap(-1)", "needs finite c and power of at least 0; got -1 and 0"),
        ("clip of gap(1, nan)", "needs finite c and power"),
        ("spline(1, -1)", "slopes of a spline need a positive sum"),
        ("swish(inf)", "overshoot must be finite"),
        ("clip of linear(2, 0)", "needs 0 <= ρ, ϱ <= 1"),
        ("clip of gap(1) of sign", "write a transform T and a prox map P as 'T of P'"),
        ("clip of gap(1", "write a transform T"),
    ],
)
def test_wrong_words_say_what_to_write(text, message):
    with pytest.raises(ValueError, match=message):
        resolve(text)


def test_no_name_of_the_catalogue_is_taken_for_words():
    assert not any(" of " in name or "(" in name for name in PAIRS)
    assert {"gap", "linear", "sign"} <= set(PROXES)
    assert {"swish", "spline", "clip"} <= set(TRANSFORMS)


def test_a_layer_trains_with_words():
    layer = binarize(torch.nn.Linear(4, 3), "swish(0.5) of gap(0.1)", keep=None)
    layer(torch.randn(5, 4)).sum().backward()
    assert layer.latent.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_window_is_bnn_at_another_width_to_the_bit(dtype):
    """F is ±1 and B is μ up to |x| = 1/μ, also where 1/μ is rounded."""
    window, bnn = parse("clip of gap(1, 1)"), PAIRS["bnn"]
    x = torch.cat([X, torch.tensor([0.0, -0.0, 1e-30])]).to(dtype)
    for mu in torch.logspace(-2, 2, 41).to(dtype).tolist():
        inside = (mu * x.double()).abs() <= 1
        assert torch.equal(window.forward(x, mu), bnn.forward(x))
        edge = ((mu * x.double()).abs() - 1).abs() <= 2 * torch.finfo(dtype).eps
        B = window.backward(x, mu)
        assert torch.equal(B[~edge], torch.where(inside, mu, 0.0).to(dtype)[~edge])


@pytest.mark.parametrize("slopes", [(1.0,), (3.0, 1.0), (1.0, 2.0, -1.0), (0.0, 1.0)])
def test_a_spline_is_the_integral_of_its_slopes(slopes):
    T, mu = squashing.spline(*slopes), 1.7
    u = torch.linspace(-2, 2, 400_001, dtype=torch.float64)
    integral = torch.cumulative_trapezoid(T.derivative(u, mu), u)
    assert (T(u, mu)[1:] - (integral - integral[200_000 - 1])).abs().max() < 1e-4
    assert torch.equal(T(u, mu), -T(-u, mu))
    assert T(torch.tensor([1 / mu, 5.0], dtype=torch.float64), mu).tolist() == pytest.approx([1.0, 1.0])
