"""Tables of cubics: how well, on which side, in which dtype, with which gradient."""

import pytest
import torch
from torch import Tensor

from proxconnect.theory.functions.interpolant import Half, Interpolant, fit, hermite, interpolant, straight

EDGES = torch.linspace(0, 3, 13, dtype=torch.float64)


def sine(side: float, tolerance: float) -> tuple[Half, float]:
    near, far = side * EDGES[:-1], side * EDGES[1:]
    return fit(near, far, lambda a, b: hermite(a.sin(), b.sin(), a.cos(), b.cos(), b - a), torch.sin, tolerance)


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7, 1e-11])
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_pieces_are_halved_until_they_err_by_less(side: float, tolerance: float) -> None:
    half, error = sine(side, tolerance)
    d = torch.linspace(0, 3, 5000, dtype=torch.float64)
    assert (half(d) - torch.sin(side * d)).abs().max() <= 1.05 * error <= 1.05 * tolerance
    assert (half.start.diff() > 0).all()
    assert half.start[0] == 0


def test_straight_pieces_meet_their_ends() -> None:
    half, _ = fit(EDGES[:-1], EDGES[1:], lambda a, b: straight(a.exp(), b.exp(), b - a), torch.exp, 1e9)
    assert torch.allclose(half(EDGES[:-1]), EDGES[:-1].exp(), rtol=1e-15, atol=0)
    middle = (EDGES[1:] + EDGES[:-1]) / 2
    assert torch.allclose(half(middle), (EDGES[1:].exp() + EDGES[:-1].exp()) / 2, rtol=1e-15, atol=0)


def test_an_odd_function_is_odd_to_the_bit_and_another_keeps_both_sides() -> None:
    right, left = sine(1.0, 1e-9)[0], sine(-1.0, 1e-9)[0]
    odd = interpolant(right, left)
    x = torch.linspace(-3, 3, 1000, dtype=torch.float64)
    assert odd.negative is None
    assert torch.equal(odd(-x), -odd(x))
    lopsided = interpolant(right, Half(left.start, 2 * left.c))
    assert lopsided.negative is not None
    assert torch.allclose(lopsided(x), torch.where(x < 0, 2 * x.sin(), x.sin()), rtol=0, atol=3e-9)


def test_it_differs_from_an_odd_one_by_little_and_is_not_made_odd() -> None:
    right, left = sine(1.0, 1e-9)[0], sine(-1.0, 1e-9)[0]
    assert interpolant(right, Half(left.start, (1 + 1e-10) * left.c)).negative is not None


def test_beyond_the_last_start_the_last_piece_goes_on() -> None:
    table = Interpolant(Half(torch.tensor([0.0, 2.0]), torch.tensor([[0.0, 1.0, 0.0, 0.0], [2.0, 0.5, 0.0, 0.0]])))
    x = torch.tensor([-102.0, -1.5, 0.0, 1.5, 2.0, 3.0, 102.0])
    assert table(x).tolist() == [-52.0, -1.5, 0.0, 1.5, 2.0, 2.5, 52.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_infinities_and_nan(dtype: torch.dtype) -> None:
    rising = Interpolant(Half(torch.tensor([0.0]), torch.tensor([[0.0, 2.0, 0.0, 0.0]])))
    level = Interpolant(Half(torch.tensor([0.0]), torch.tensor([[3.0, 0.0, 0.0, 0.0]])))
    x = torch.tensor([-torch.inf, torch.inf, torch.nan], dtype=dtype)
    assert level(x)[:2].tolist() == [-3.0, 3.0]
    assert (rising(x)[:2].double().abs() >= 6e4).all()
    assert level(x)[2].isnan()
    assert rising(x).dtype == dtype


def test_its_gradient_is_the_slope() -> None:
    table = interpolant(sine(1.0, 1e-10)[0], sine(-1.0, 1e-10)[0])
    x = torch.linspace(-2.9, 2.9, 41, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(table(x).sum(), x)
    assert torch.allclose(gradient, x.cos(), rtol=0, atol=1e-6)
    assert torch.autograd.gradcheck(table, x.detach().requires_grad_(), atol=1e-5)


def test_any_shape_passes() -> None:
    table = interpolant(sine(1.0, 1e-10)[0], sine(-1.0, 1e-10)[0])
    x: Tensor = torch.rand(3, 4, 5).transpose(0, 2)
    for part in (x, x[0, 0, 0], x[:0]):
        assert table(part).shape == part.shape
        assert torch.allclose(table(part), part.sin(), atol=1e-6)
