"""Surrogates of the literature: B against the papers' formulas, and T, which corrects them, against the integral of B.

As pairs they obey the laws of `test_conformance.py`; here their corrections do, but for the laws that ask for sign as μ
grows, which the papers' own factors break.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from looped import looped
from pairs import test_conformance as laws
from pairs.published import FACTORS
from proxconnect.pairs import PAIRS, Heuristic, Pair, Transform
from proxconnect.pairs.catalogue import SURROGATES
from proxconnect.pairs.pair import MethodMap
from proxconnect.pairs.prox import sign
from proxconnect.pairs.squashing import DampedTriangle, Fourier, Power

X = np.concatenate([np.linspace(-3, 3, 1201), [-1e-9, 1e-9, -0.3, 0.3, -0.0]])
KINKS = (0.1, 1.0, 1.5, 2**0.5)
"""Of ReSTE where it is not 0; of the others at μ = 1, where it scales with 1/μ but for DSQ's."""


def integral(surrogate: Heuristic) -> Transform:
    """T, whose derivative the surrogate is."""
    factor = surrogate.backward_map
    assert isinstance(factor, MethodMap)
    assert isinstance(factor.owner, Transform)
    assert factor.method == "derivative"
    return factor.owner


CORRECTIONS = [Pair(f"{name}+", transform=integral(surrogate)) for name, surrogate in SURROGATES.items()]
every_name = pytest.mark.parametrize("name", SURROGATES)
every_correction = looped(pair=CORRECTIONS)


def domain(name: str, *mus: float) -> list[float]:
    lowest = SURROGATES[name].sharpness.lowest  # type: ignore[union-attr]  # all of them depend on μ
    return [mu for mu in mus if mu >= lowest]


def test_there_are_papers_for_all_of_them_and_none_is_in_the_catalogue() -> None:
    assert set(FACTORS) == set(SURROGATES)
    assert not set(SURROGATES) & set(PAIRS)
    assert all(surrogate.forward_map == sign and "arXiv" in surrogate.doc for surrogate in SURROGATES.values())


@every_name
def test_the_factor_is_the_published_one(name: str) -> None:
    for mu in domain(name, 0.1, 0.5, 1.0, 1.7, 4.0, 10.0):
        ours = SURROGATES[name].backward(torch.from_numpy(X), mu).numpy()
        assert np.abs(ours - FACTORS[name](X, mu)).max() <= 1e-14 * max(1, mu), mu


@every_name
def test_the_transform_is_its_integral(name: str) -> None:
    """By Gauss-Legendre over short panels that end at every kink and cut, from the paper's formula."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    for mu in domain(name, 0.1, 0.5, 1.0, 2.5, 4.0, 10.0):
        edges = np.unique([*np.linspace(0, 4, 241), *KINKS, *(k / mu for k in KINKS if k / mu < 4)])
        middle, half = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
        areas = half * (FACTORS[name](middle[:, None] + half[:, None] * nodes, mu) @ weights)
        sums = np.concatenate([[0.0], areas.cumsum()])
        ours = integral(SURROGATES[name])(torch.from_numpy(np.concatenate([-edges, edges])), mu).numpy()
        assert np.abs(ours - np.concatenate([-sums, sums])).max() <= 1e-13 * max(1, mu), mu


ENDS = {"lsnn": 0.3, "fda": float((2 * np.sin(np.arange(1, 20, 2) * 0.1) / np.arange(1, 20, 2)).sum() * 2 / np.pi)}


@every_name
def test_where_the_transform_ends(name: str) -> None:
    """At ±1, as the docstrings say, but for the damped triangle, the series and ReSTE's power of 3/2."""
    mu = 4.0
    end = float(integral(SURROGATES[name])(torch.tensor(1e12, dtype=torch.float64), mu))
    assert end == pytest.approx(1.5**0.25 if name == "reste" else ENDS.get(name, 1.0), abs=1e-11)


def test_the_parameters_of_the_papers_are_open() -> None:
    """Undamped, the triangle is Bi-Real Net's polynomial; more waves are a steeper series; at o = 1 ReSTE is clip."""
    x = torch.linspace(-2, 2, 81, dtype=torch.float64)
    undamped = DampedTriangle(gamma=1.0).derivative(x, 1.0)
    assert torch.allclose(undamped, PAIRS["poly"].backward(x), rtol=0, atol=1e-15)
    zero = torch.zeros((), dtype=torch.float64)
    assert float(Fourier(terms=19, omega=0.2).derivative(zero, 3.0)) == pytest.approx(3 * 19 * 0.8 / np.pi)
    assert torch.equal(Power(t=0.5)(x, 1.0), x.clamp(-0.5, 0.5))
    assert Fourier(terms=19) != Fourier()


@pytest.mark.parametrize(
    "law",
    [
        laws.test_keeps_shape_and_dtype, laws.test_no_finite_input_overflows, laws.test_no_tiny_sharpness_makes_nan,
        laws.test_nan_stays_nan, laws.test_float_and_tensor_sharpness_agree,
        laws.test_low_precision_is_float64_to_a_few_ulp,
    ],
)  # fmt: skip
@every_correction
def test_a_correction_is_stable(law: Callable[..., None], pair: Pair) -> None:
    law(pair=pair)


@pytest.mark.parametrize("law", [laws.test_odd_forward_and_even_backward, laws.test_both_zeros_are_one_point])
@every_correction
def test_a_correction_is_odd(law: Callable[..., None], pair: Pair) -> None:
    law(pair=pair)


@pytest.mark.parametrize(
    "law",
    [
        laws.test_the_derivative_is_that_of_the_transform, laws.test_is_softest_at_the_lowest_sharpness,
        laws.test_the_parts_take_a_sharpness_of_another_dtype, laws.test_refuses_what_is_outside_the_domain,
    ],
)  # fmt: skip
@every_correction
def test_a_correction_is_a_pair(law: Callable[..., None], pair: Pair) -> None:
    law(pair=pair)


@pytest.mark.parametrize("pair", [PAIRS["clip+"], PAIRS["erf+"]], ids=lambda pair: pair.name)
def test_what_joined_the_catalogue_is_made_of_these_transforms(pair: Pair) -> None:
    heuristic = {"clip+": SURROGATES["rectangle"], "erf+": PAIRS["erf"]}[pair.name]
    assert isinstance(heuristic, Heuristic)
    assert pair.transform == integral(heuristic)


LEGITIMATE: dict[tuple[str, float], tuple[Callable[[torch.Tensor], torch.Tensor], float]] = {
    ("rectangle", 0.5): (lambda x: x.abs().clamp(min=2), 2.0),
    ("rectangle", 1.0): (lambda x: x.abs().clamp(min=1), 1.0),
    ("rectangle", 4.0): (lambda x: x.abs().clamp(min=0.25), 0.25),
    ("reste", 1.0): (lambda x: (x.abs() - 0.5).clamp(min=1), 1.0),
}
"""By name and μ, |P| and the half-width of T = clip(p/width, -1, 1)."""


@pytest.mark.parametrize(("name", "mu"), LEGITIMATE)
def test_two_have_a_decomposition_as_bnn_has(name: str, mu: float) -> None:
    x = torch.linspace(-3, 3, 97, dtype=torch.float64)
    size, width = LEGITIMATE[name, mu]
    p = sign(x, mu) * size(x)
    assert (p.diff() >= 0).all()
    assert torch.equal((p / width).clamp(-1, 1), SURROGATES[name].forward(x, mu))
    assert torch.equal((p.abs() <= width) / width, SURROGATES[name].backward(x, mu))
