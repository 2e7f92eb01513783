"""Φ found by integration is the Φ that the prox states, up to a constant, and P(x) is where it puts the minimum."""

import math

import pytest
import torch
from torch import Tensor

from pairs.test_prox import EVERY
from proxconnect.pairs import Prox, prox
from proxconnect.theory.certificates.potentials import NotProximalError, potential


class Plain(Prox):
    """A prox that states no regularizer."""

    def __init__(self, function) -> None:
        self.function = function

    def __call__(self, x: Tensor, mu: float | Tensor) -> Tensor:
        return self.function(x)


def line(low: float, high: float, count: int = 2001) -> Tensor:
    return torch.linspace(low, high, count, dtype=torch.float64)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("mu", [1.0, 1.4, 6.0, 30.0])
def test_integrated_and_stated_differ_by_a_constant_on_the_range(name: str, mu: float) -> None:
    map = EVERY[name]
    p = map(line(-4, 4), mu)
    difference = potential(Plain(lambda x: map(x, mu)))(p) - potential(map, mu)(p)
    assert float(difference.max() - difference.min()) < 1e-9


@pytest.mark.parametrize("name", EVERY)
def test_the_integrated_one_is_the_largest_convex_function_below(name: str) -> None:
    """Inside gaps r may be anything above; beyond the range the two are infinite alike."""
    map, z = EVERY[name], line(-3, 3)
    found, stated = potential(Plain(lambda x: map(x, 2.0)))(z), potential(map, 2.0)(z)
    p = map(line(-4, 4, 101), 2.0)
    offset = float((potential(map, 2.0)(p) - potential(Plain(lambda x: map(x, 2.0)))(p)).mean())
    assert (found + offset <= stated + 1e-9).all()
    assert torch.equal(found.isinf(), (z.abs() > 1) & stated.isinf())
    inside = found[found.isfinite()]
    assert (inside[2:] - 2 * inside[1:-1] + inside[:-2] >= -1e-12).all()


def test_an_asymmetric_prox_with_a_jump_and_a_plateau_by_hand() -> None:
    """P = x for x < 0.3, 2 from there to 2.5, then x - 0.5; A and Φ follow on paper."""

    def function(x: Tensor) -> Tensor:
        return torch.where(x < 0.3, x, torch.where(x < 2.5, torch.full_like(x, 2.0), x - 0.5))

    phi = potential(Plain(function))
    z = torch.tensor([-3.0, 0.0, 0.3, 1.0, 2.0, 3.0], dtype=torch.float64)
    gap = 0.045 + 0.3 * 0.7  # Φ(0.3) = 0.045, then with slope 0.3
    at_two = 0.045 + 0.3 * 1.7
    beyond = at_two + 3.0**2 / 2 - 2.0**2 / 2 + 0.5  # Φ' = P⁻¹ = z + 0.5
    expected = torch.tensor([4.5, 0.0, 0.045, gap, at_two, beyond], dtype=torch.float64)
    assert torch.allclose(phi(z), expected, rtol=0, atol=1e-12)


def test_what_lies_beyond_the_range() -> None:
    ends = potential(Plain(lambda x: x.clamp(-1.0, 2.0)))
    values = ends(torch.tensor([-1.1, -1.0, 2.0, 2.1, torch.nan], dtype=torch.float64))
    assert values.isinf().tolist() == [True, False, False, True, False]
    assert math.isnan(values[-1])
    goes_on = potential(Plain(lambda x: torch.atan(x).clamp(min=-1.0)))  # to π/2, which it never reaches
    values = goes_on(torch.tensor([-1.1, 1.5, 1.5707, 2.0], dtype=torch.float64))
    assert values.isinf().tolist() == [True, False, False, False]
    assert values.isnan().tolist() == [False, False, True, True]
    assert float(values[1]) == pytest.approx(-math.log(math.cos(1.5)), abs=1e-9)  # ∫ tan


def test_keeps_its_shape_and_serves_any_mu() -> None:
    z = line(-1, 1, 12).reshape(3, 4)
    assert potential(prox.tanh, 3.0)(z).shape == (3, 4)
    assert potential(Plain(torch.tanh))(z).shape == (3, 4)
    assert torch.equal(potential(prox.tanh.at(3.0), 9.0)(z), potential(prox.tanh, 3.0)(z))


def test_a_map_that_falls_is_the_prox_of_nothing() -> None:
    with pytest.raises(
        NotProximalError, match=r"P falls by 0.01 from 0.7 between x = 0.7 and 0.7: it is the prox of nothing"
    ):
        potential(Plain(lambda x: x - 0.01 * (x > 0.7)))
    with pytest.raises(NotProximalError, match="P falls by 2 from 1 between x = "):
        potential(Plain(lambda x: -prox.sign(x, 1.0)))
