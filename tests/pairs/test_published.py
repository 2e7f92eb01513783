"""The catalogue against what the papers print."""

import numpy as np
import pytest
import torch

from looped import looped
from pairs.published import PUBLISHED, piecewise_linear
from proxconnect.pairs import PAIRS, Heuristic, Pair, prox, transform

X = np.concatenate([np.linspace(-3, 3, 1201), [-1e-9, 1e-9, -0.3, 0.3]])
LOWEST = {"pc": 1.0, "parq": 1.0, "binaryrelax": 1.0}
WITHOUT_MU = {"fp", "bc", "bnn", "poly"}


@pytest.mark.parametrize("name", PUBLISHED)
@looped(mu=[1.0, 1.7, 4.0, 10.0])
@looped(part=["forward", "backward"])
def test_stable_forms_are_the_published_ones(name: str, mu: float, part: str) -> None:
    ours = getattr(PAIRS[name], part)(torch.from_numpy(X), mu).numpy()
    theirs = getattr(PUBLISHED[name], part)(X, mu)
    assert np.abs(ours - theirs).max() <= 1e-14 * max(1, mu)


@pytest.mark.parametrize("name", sorted(set(PUBLISHED) - set(LOWEST) - WITHOUT_MU))
@looped(part=["forward", "backward"])
def test_below_one_too_where_the_domain_allows_it(name: str, part: str) -> None:
    ours = getattr(PAIRS[name], part)(torch.from_numpy(X), 0.1).numpy()
    assert np.abs(ours - getattr(PUBLISHED[name], part)(X, 0.1)).max() <= 1e-14


@pytest.mark.parametrize("name", PUBLISHED)
def test_is_of_its_kind_and_domain(name: str) -> None:
    pair = PAIRS[name]
    assert isinstance(pair, Heuristic if name in ("bnn+", "poly", "ede", "erf") else Pair)
    expected = None if name in WITHOUT_MU else LOWEST.get(name, 0.0)
    assert (pair.sharpness.lowest if pair.sharpness else None) == expected


KINKS = {
    "fp": [(1.0, 1.0, 1.0)],
    "bc": [(0.0, 1.0, 1.0), (-0.0, 1.0, 1.0), (-1e-30, -1.0, 1.0)],
    "pc": [(0.0, 0.75, 1.0), (-0.0, 0.75, 1.0), (0.25, 1.0, 1.0), (-0.25, -1.0, 1.0), (1.0, 1.0, 1.0)],
    "parq": [(0.0, 0.0, 1.0), (0.25, 1.0, 1.0), (-0.25, -1.0, 1.0), (0.125, 0.5, 1.0)],
    "binaryrelax": [(0.0, 0.75, 1.0), (-0.0, 0.75, 1.0), (1.0, 1.0, 1.0), (-5.0, -2.0, 1.0)],
    "md": [(0.0, 0.0, 1.0)],
    "bnn": [(0.0, 1.0, 1.0), (-0.0, 1.0, 1.0), (1.0, 1.0, 1.0), (-1.0, -1.0, 1.0), (1.0000001, 1.0, 0.0)],
    "bnn++": [(0.0, 0.0, 4.0)],
    "poly+": [(0.0, 0.0, 8.0), (0.25, 1.0, 0.0), (-0.25, -1.0, 0.0), (0.125, 0.75, 4.0)],
    "ede+": [(0.0, 0.0, 4.0)],
    "clip+": [(0.0, 0.0, 4.0), (0.25, 1.0, 4.0), (-0.25, -1.0, 4.0), (0.2500001, 1.0, 0.0), (0.125, 0.5, 4.0)],
    "bnn+": [(0.0, 1.0, 4.0), (-0.0, 1.0, 4.0)],
    "poly": [(0.0, 1.0, 2.0), (-0.0, 1.0, 2.0), (1.0, 1.0, 0.0), (-1.0, -1.0, 0.0), (-0.5, -1.0, 1.0)],
    "ede": [(0.0, 1.0, 4.0), (-0.0, 1.0, 4.0)],
}


@pytest.mark.parametrize("name", KINKS)
def test_values_at_the_kinks_for_mu_4(name: str) -> None:
    x, forward, backward = torch.tensor(KINKS[name], dtype=torch.float64).T
    assert torch.equal(PAIRS[name].forward(x, 4.0), forward)
    assert torch.equal(PAIRS[name].backward(x, 4.0), backward)


@pytest.mark.parametrize("mu", [0.5, 1.0, 7.0])
def test_sign_swish_overshoots_as_published(mu: float) -> None:
    x = torch.linspace(0, 10 / mu, 2_000_001, dtype=torch.float64)
    value, place = transform.sign_swish(x, mu).max(0)
    assert float(value) == pytest.approx(1.19968, abs=5e-6)
    assert mu * float(x[place]) == pytest.approx(2.3994, abs=5e-5)
    value, place = transform.sign_swish.derivative(x, mu).min(0)
    assert float(value) == pytest.approx(-0.0738 * mu, abs=5e-5 * mu)
    assert mu * float(x[place]) == pytest.approx(3.436, abs=5e-4)


@pytest.mark.parametrize("mu", [1.0, 2.0, 5.0])
def test_pc_and_parq_are_members_of_the_linear_family(mu: float) -> None:
    x = torch.from_numpy(X)
    rho = 1 - 1 / mu
    assert torch.allclose(prox.linear(rho, rho)(x, 1.0), prox.proxconnect(x, mu), rtol=0, atol=1e-14)
    assert torch.allclose(prox.linear(rho, 0.0)(x, 1.0), prox.parq(x, mu), rtol=0, atol=1e-14)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("varrho", [0.0, 0.4, 1.0])
def test_the_linear_family_is_the_published_one(rho: float, varrho: float) -> None:
    ours = prox.linear(rho, varrho)(torch.from_numpy(X), 1.0).numpy()
    assert np.abs(ours - piecewise_linear(X, rho, varrho)).max() <= 1e-14


@pytest.mark.parametrize(("rho", "varrho"), [(-0.1, 0.0), (0.0, 1.1), (float("nan"), 0.0)])
def test_the_linear_family_refuses_what_is_no_plateau(rho: float, varrho: float) -> None:
    with pytest.raises(ValueError, match="ρ"):
        prox.linear(rho, varrho)
