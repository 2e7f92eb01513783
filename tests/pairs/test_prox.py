"""Every prox is the argmin that its docstring names, nondecreasing, and right in every dtype."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from looped import looped
from proxconnect.pairs import PAIRS, Pair, Prox, prox

Regulariser = Callable[[np.ndarray, float], np.ndarray]


def infinite_unless(allowed: np.ndarray) -> np.ndarray:
    return np.where(allowed, 0.0, np.inf)


def distance(z: np.ndarray) -> np.ndarray:
    """dist(z, {-1, +1})."""
    return np.abs(np.abs(z) - 1)


def entropy(z: np.ndarray) -> np.ndarray:
    """H(z) = ½[(1+z)ln(1+z) + (1-z)ln(1-z)], +∞ outside [-1, 1]."""
    inside = np.clip(np.abs(z), 0, 1)
    value = 0.5 * ((1 + inside) * np.log1p(inside) + (1 - inside) * np.log(np.maximum(1 - inside, 1e-300)))
    return value + infinite_unless(np.abs(z) <= 1)


def linear_family(rho: float, varrho: float) -> Regulariser:
    """r of L(ρ, ϱ) on [-1, 1], by r' = P⁻¹(z) - z beyond the jump; inside it, the curve with P⁻¹ = 0."""

    def r(z: np.ndarray, mu: float) -> np.ndarray:
        m, slope = np.abs(z), (1 - rho) / (1 - varrho)
        beyond = slope * (m - varrho) ** 2 / 2 - m**2 / 2
        return np.where(m >= varrho, beyond, -(m**2) / 2) + infinite_unless(m <= 1)

    return r


REGULARISERS: dict[str, tuple[Prox, Regulariser]] = {
    "identity": (prox.identity, lambda z, mu: np.zeros_like(z)),
    "sign": (prox.sign, lambda z, mu: infinite_unless(np.abs(z) == 1)),
    "proxconnect": (prox.proxconnect, lambda z, mu: (1 - 1 / mu) * distance(z) + infinite_unless(np.abs(z) <= 1)),
    "parq": (prox.parq, lambda z, mu: -0.5 * (1 - 1 / mu) * z**2 + infinite_unless(np.abs(z) <= 1)),
    "binaryrelax": (prox.binaryrelax, lambda z, mu: 0.5 * (mu - 1) * distance(z) ** 2),
    "proxquant": (prox.proxquant, lambda z, mu: (mu - 1) * distance(z)),
    "tanh": (prox.tanh, lambda z, mu: entropy(z) / mu - 0.5 * z**2),
    "outward": (prox.outward, lambda z, mu: infinite_unless(np.abs(z) >= 1)),
    "gap(0.7)": (prox.gap(0.7), lambda z, mu: infinite_unless(np.abs(z) >= 0.7)),
    "gap(0.61003, 1)": (prox.gap(0.61003, 1), lambda z, mu: infinite_unless(np.abs(z) >= 0.61003 / mu * (1 - 1e-15))),
    "linear(0.4, 0.2)": (prox.linear(0.4, 0.2), linear_family(0.4, 0.2)),
    "linear(0.1, 0.5)": (prox.linear(0.1, 0.5), linear_family(0.1, 0.5)),
}
EVERY = {name: map for name, (map, _) in REGULARISERS.items()} | {"linear(1, 0)": prox.linear(1.0, 0.0)}
GRID = np.linspace(-4, 4, 80_001)  # step 1e-4; ±1 lie on it
GRID[np.abs(np.abs(GRID) - 1) < 1e-9] = np.sign(GRID[np.abs(np.abs(GRID) - 1) < 1e-9])


@pytest.mark.parametrize("name", REGULARISERS)
@looped(mu=[1.0, 1.4, 3.0])
def test_is_the_argmin(name: str, mu: float) -> None:
    map, r = REGULARISERS[name]
    x = np.array([-2.7, -1.31, -1.0, -0.77, -0.5, -0.26, -0.03, 0.02, 0.2, 0.49, 0.81, 1.0, 1.2, 2.9])
    objective = 0.5 * (GRID[None, :] - x[:, None]) ** 2 + r(GRID, mu)[None, :]
    ours = map(torch.from_numpy(x), mu).numpy()
    at_ours = 0.5 * (ours - x) ** 2 + r(ours, mu)
    best = objective.min(1)
    assert (at_ours <= best + 1e-12).all(), "the grid holds a better point"
    unique = (objective <= best[:, None] + 1e-9).sum(1) <= 3
    assert np.abs(ours - GRID[objective.argmin(1)])[unique].max() <= 1.01e-4
    assert unique.sum() >= len(x) - 4


DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("name", REGULARISERS)
@looped(mu=[1.0, 1.4, 3.0])
def test_states_that_regularizer_up_to_a_constant(name: str, mu: float) -> None:
    map, r = REGULARISERS[name]
    expected, ours = r(GRID, mu), map.regularizer(torch.from_numpy(GRID), mu).numpy()
    finite = np.isfinite(expected)
    assert np.array_equal(np.isfinite(ours), finite)
    assert (ours[~finite] == np.inf).all()
    assert np.ptp(ours[finite] - expected[finite]) <= 1e-14


@pytest.mark.parametrize("rho_and_varrho", [(1.0, 0.0), (1.0, 0.3), (0.3, 1.0), (1.0, 1.0)])
def test_a_linear_prox_that_is_sign_has_the_same_r_at_both_ends(rho_and_varrho: tuple[float, float]) -> None:
    """There P⁻¹ = 0 everywhere between, so r = -½z²."""
    z = torch.tensor([-1.1, -1.0, -0.5, 0.0, 0.7, 1.0, 1.1], dtype=torch.float64)
    expected = torch.tensor([torch.inf, -0.5, -0.125, 0.0, -0.245, -0.5, torch.inf], dtype=torch.float64)
    assert torch.allclose(prox.linear(*rho_and_varrho).regularizer(z, 1.0), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", EVERY)
@looped(dtype=DTYPES)
def test_regularizers_keep_shape_dtype_and_nan(name: str, dtype: torch.dtype) -> None:
    map, top = EVERY[name], torch.finfo(dtype).max
    z = torch.tensor([[-torch.inf, -top, -1.0, -0.3], [torch.nan, 1.0, top, torch.inf]], dtype=dtype)
    for mu in (1.0, torch.tensor(1.0), 1.5, torch.tensor(1.5), torch.tensor(1.5, dtype=torch.float64)):
        values = map.regularizer(z, mu)
        assert (values.shape, values.dtype) == (z.shape, dtype)
        assert torch.equal(values.isnan(), z.isnan())
        assert not (values == -torch.inf).any()
        assert map.regularizer(z[0, 2], mu).dtype == dtype
        exact = map.regularizer(z[:, 1:3].double(), float(mu))
        assert torch.allclose(values[:, 1:3].double()[exact <= 1], exact[exact <= 1], atol=2 * torch.finfo(dtype).eps)


def test_a_prox_of_ones_own_may_state_none() -> None:
    class Mine(Prox):
        def __call__(self, x: torch.Tensor, mu: float | torch.Tensor) -> torch.Tensor:
            return x / 2

    with pytest.raises(NotImplementedError, match=r"Mine states no regularizer: .* proxconnect\.theory\.potential"):
        Mine().regularizer(torch.zeros(1), 1.0)


def test_every_prox_of_the_catalogue_has_its_argmin_checked() -> None:
    checked = {type(map) for map, _ in REGULARISERS.values()}
    assert {type(pair.prox) for pair in PAIRS.values() if isinstance(pair, Pair)} <= checked


@pytest.mark.parametrize("name", EVERY)
@given(st.floats(allow_nan=False), st.floats(allow_nan=False), st.floats(1.0, 1e4))
def test_is_nondecreasing(name: str, x: float, y: float, mu: float) -> None:
    low, high = EVERY[name](torch.tensor([min(x, y), max(x, y)], dtype=torch.float64), mu).tolist()
    assert low <= high


@pytest.mark.parametrize("name", EVERY)
def test_is_nondecreasing_between_neighbours(name: str) -> None:
    x = torch.linspace(-3, 3, 20_001, dtype=torch.float64)
    for mu in (1.0, 1.3, 5.0, 1e4):
        values = EVERY[name](x, mu)
        assert (values.diff() >= -2e-16 * values[1:].abs()).all()


@pytest.mark.parametrize("name", EVERY)
@looped(dtype=DTYPES)
def test_limits_and_dtype(name: str, dtype: torch.dtype) -> None:
    map, top = EVERY[name], torch.finfo(dtype).max
    for mu in (1.0, 1.5, 1e4, torch.tensor(3.0, dtype=dtype)):
        x = torch.tensor([-top, -1.0, -0.0, 0.0, 1.0, top], dtype=dtype)
        values = map(x, mu)
        assert values.dtype == dtype
        assert values.isfinite().all()
        assert torch.equal(values[2], values[3]), "both zeros are one point"
        infinite = map(torch.tensor([-torch.inf, torch.inf], dtype=dtype), mu).abs()
        assert ((infinite == 1) | infinite.isinf()).all()
        assert map(torch.tensor([torch.nan], dtype=dtype), mu).isnan().all()


def test_proxquant_moves_the_far_points_by_lambda_and_catches_the_near_ones() -> None:
    x = torch.tensor([-3.0, -1.2, -0.4, 0.4, 1.2, 3.0], dtype=torch.float64)
    expected = torch.tensor([-2.75, -1.0, -0.65, 0.65, 1.0, 2.75], dtype=torch.float64)
    assert torch.allclose(prox.proxquant(x, 1.25), expected, rtol=0, atol=1e-15)


def test_fixed_sharpness() -> None:
    x = torch.linspace(-2, 2, 9)
    assert torch.equal(prox.tanh.at(3.0)(x, 100.0), prox.tanh(x, 3.0))
    assert torch.equal(prox.tanh.at(3.0).regularizer(x, 100.0), prox.tanh.regularizer(x, 3.0))
    assert prox.sign.at(3.0) is prox.sign
