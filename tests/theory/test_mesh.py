"""The mesh finds jumps and kinks to the last bits, and its derivatives and integrals are those of calculus."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from proxconnect.theory.functions.blackbox import BlackBox
from proxconnect.theory.functions.mesh import Mesh, TooRoughError, edges, mesh, size_of
from proxconnect.theory.verdicts.sampling import Sample, sample

Map = Callable[[Tensor], Tensor]

PLACES = [0.0, 0.3137, -1e-3, 1 / 3, 2.4, -777.7, 999.9]


def over(f: Map, low: float = -1000.0, high: float = 1000.0) -> Mesh:
    return mesh([BlackBox("f", f)], low, high)


def sampled(F: Map, B: Map = torch.ones_like) -> Sample:
    return sample(BlackBox("F", F), BlackBox("B", B), -1000.0, 1000.0)


def step(x: Tensor, at: float) -> Tensor:
    return (x >= at).to(x)


def line(low: float, high: float) -> Tensor:
    return torch.linspace(low, high, 4001, dtype=torch.float64)


def test_leaves_follow_each_other_without_a_hole() -> None:
    of = over(lambda x: torch.tanh(9 * x) + step(x, 0.3137), -7.0, 11.0)
    assert (of.low[0], of.high[-1]) == (-7.0, 11.0)
    assert torch.equal(of.low[1:], of.high[:-1])
    assert (of.x.diff(dim=1) >= 0).all()


def test_given_points_are_ends_of_leaves() -> None:
    ends = edges(-2.0, 3.0, [0.3137, -1.9]).tolist()
    assert {-2.0, -1.9, 0.0, 0.3137, 3.0} <= set(ends)
    assert sorted(set(ends)) == ends
    assert max(b - a for a, b in pairwise(ends)) <= 1 / 256


@pytest.mark.parametrize("at", PLACES)
def test_a_jump_is_found_to_the_last_bits(at: float) -> None:
    breaks = sampled(lambda x: torch.tanh(x) + step(x, at)).breaks
    assert len(breaks) == 1
    assert abs(breaks[0].x - at) <= 2e-15 * max(1.0, abs(at))


@pytest.mark.parametrize("at", PLACES)
def test_a_jump_of_the_slope_is_found_to_the_last_bits(at: float) -> None:
    """As it is a jump of B; F alone tells the place of a kink only to where its bend shows."""
    breaks = sampled(lambda x: x + (x - at).clamp(min=0), lambda x: 1 + step(x, at)).breaks
    assert len(breaks) == 1
    assert abs(breaks[0].x - at) <= 2e-15 * max(1.0, abs(at))


@pytest.mark.parametrize("height", [1.0, 1e-3, 1e-6, 1e-9])
def test_a_small_jump_is_found_too(height: float) -> None:
    breaks = sampled(lambda x: torch.tanh(x) + height * step(x, 0.3137)).breaks
    assert [b.x for b in breaks] == pytest.approx([0.3137], abs=2e-15)


def test_several_jumps_are_told_apart() -> None:
    places = [-777.7, -2.2, 0.3137, 0.3137 + 1e-9, 12.3]
    found = [b.x for b in sampled(lambda x: sum(step(x, at) for at in places) + 0 * x).breaks]
    assert found == pytest.approx(places, rel=2e-15)


@pytest.mark.parametrize("at", [at for at in PLACES if abs(at) < 4])
def test_a_kink_of_f_alone_is_closed_in_on(at: float) -> None:
    of = over(lambda x: (x - at).abs())
    x = at + line(-1e-6, 1e-6)
    assert (of.interpolate(of.values[0], x) - (x - at).abs()).abs().max() <= 1e-10


SMOOTH: dict[str, tuple[Map, Map, Map]] = {  # f, f', ∫f from 0
    "tanh(5x)": (
        lambda x: torch.tanh(5 * x),
        lambda x: 5 / torch.cosh(5 * x) ** 2,
        lambda x: torch.log(torch.cosh(5 * x)) / 5,
    ),
    "x³": (lambda x: x**3, lambda x: 3 * x**2, lambda x: x**4 / 4),
    "sin": (torch.sin, torch.cos, lambda x: 1 - torch.cos(x)),
    "|x - ⅓|": (
        lambda x: (x - 1 / 3).abs(),
        lambda x: torch.where(x < 1 / 3, -1.0, 1.0).to(x),
        lambda x: (x - 1 / 3) * (x - 1 / 3).abs() / 2 + 1 / 18,
    ),
    "√|x|": (
        lambda x: x.abs().sqrt(),
        lambda x: x.sign() / (2 * x.abs().sqrt()),
        lambda x: x.abs() ** 1.5 * x.sign() / 1.5,
    ),
    "1[x ≥ 0.3137]": (lambda x: step(x, 0.3137), torch.zeros_like, lambda x: (x - 0.3137).clamp(min=0)),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_interpolation_and_integrals_are_exact(name: str) -> None:
    f, _, integral = SMOOTH[name]
    of = over(f, -20.0, 20.0)
    x = torch.arange(-4000, 4001, dtype=torch.float64) / 200
    assert (of.interpolate(of.values[0], x) - f(x)).abs().max() <= 1e-9
    whole = float(of.integrals(of.values[0])[:, -1].sum())
    ends = integral(torch.tensor([-20.0, 20.0], dtype=torch.float64))
    assert whole == pytest.approx(float(ends[1] - ends[0]), rel=1e-11, abs=1e-10)
    running = of.integrals(of.values[0])
    expected = integral(of.x) - integral(of.x[:, :1])
    assert (running - expected)[of.smooth].abs().max() <= 1e-10


@pytest.mark.parametrize("name", SMOOTH)
def test_slopes_are_exact_where_the_function_is_smooth(name: str) -> None:
    f, slope, _ = SMOOTH[name]
    of = over(f, -20.0, 20.0)
    wide = of.smooth & (of.width > 1e-4)
    off = (of.slopes(of.values[0]) - slope(of.x))[wide][:, 1:-1]
    assert off.abs().max() <= 1e-6


def test_beyond_the_mesh_nothing_is_known() -> None:
    of = over(torch.sin, -1.0, 2.0)
    x = torch.tensor([-1.1, -1.0, 2.0, 2.1], dtype=torch.float64)
    assert of.interpolate(of.values[0], x).isnan().tolist() == [True, False, False, True]


def test_size_looks_at_what_is_around_zero_first() -> None:
    """A cubic counts as 64 = 4³ wherever the mesh ends; a narrow bump at 8 as an eighth of its height."""
    cubic, bump = over(lambda x: x**3), over(lambda x: (1 - (10 * (x - 8)) ** 2).clamp(min=0))
    assert float(size_of(cubic.x, cubic.values[0])) == pytest.approx(64, rel=1e-9)
    assert float(size_of(bump.x, bump.values[0])) == pytest.approx(1 / 8, rel=0.02)


@pytest.mark.parametrize(
    ("f", "error"),
    [
        (torch.tanh, 1e-16),
        (lambda x: (torch.tanh(x) - 30 * x) + 30 * x, 1e-15),
        (lambda x: (x - 0.1).clamp(min=0) - (x - 0.2).clamp(min=0), 1e-16),
    ],
)
def test_noise_is_at_least_the_rounding_and_not_much_more(f: Map, error: float) -> None:
    """Steps of F below the noise are not steps: the rounding of x beside a sum that cancels is known from x."""
    of = over(f)
    truth = of.values[0].mean(1, keepdim=True)
    far = of.x.abs().amin(1) > 50  # all of them are constant there
    blur = (of.values[0] - truth)[far].abs().amax(1)
    assert (of.noise()[far] >= blur).all()
    assert (of.noise()[far] <= 1e-12 + 1e3 * error * of.x[far].abs().amax(1)).all()


@pytest.mark.parametrize("f", [lambda x: torch.floor(1e5 * x), lambda x: torch.tanh(x.float()).double()])
def test_what_jumps_everywhere_is_refused_in_the_end(f: Map) -> None:
    with pytest.raises(
        TooRoughError,
        match=r"f has more jumps .* between x = -?\d\S* and -?\d\S* \(does it wave for ever, or is it computed in",
    ):
        over(f)


def test_two_thousand_jumps_are_not_too_many() -> None:
    assert len(sampled(torch.round).breaks) == 2000


# Zeros of B, the mesh graded towards each.
ZEROS: dict[str, tuple[Map, list[float]]] = {
    "a sign change": (lambda x: x - 1 / 3, [1 / 3]),
    "touching": (lambda x: (x - 1 / 3) ** 2, [1 / 3]),
    "a root": (lambda x: (x - 0.3137).abs().sqrt(), [0.3137]),
    "an interval": (lambda x: ((x - 0.25).abs() - 0.1).clamp(min=0), [0.15, 0.35]),
    "two": (lambda x: x * x - 2, [-math.sqrt(2), math.sqrt(2)]),
    "none": (lambda x: 1 + x * x, []),
    "none, though it comes near": (lambda x: 1e-6 + x * x, []),
    "none, though it decays": (lambda x: torch.exp(-x.abs() / 2), []),
}


@pytest.mark.parametrize("name", ZEROS)
def test_zeros_of_b_are_found(name: str) -> None:
    B, places = ZEROS[name]
    found = sampled(lambda x: x, B).zeros
    assert [zero.x for zero in found] == pytest.approx(places, abs=2e-7)
    assert all(abs(zero.x - at) <= zero.error * 10 for zero, at in zip(found, places, strict=True))
