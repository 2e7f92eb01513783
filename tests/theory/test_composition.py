"""Laws of composition against twins a line long; what they make is legitimate."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pairs.test_prox import EVERY
from proxconnect.pairs import PAIRS, SURROGATES, Pair, Prox, Sharpness, prox, transform
from proxconnect.pairs.prox import FixedProx
from proxconnect.theory import average, compose, decompose, rescale
from proxconnect.theory.certificates.potentials import potential

LINE = torch.linspace(-3, 3, 481, dtype=torch.float64)
PARTS = {name: pair for name, pair in PAIRS.items() if isinstance(pair, Pair)}
TRANSFORMS = {"hardtanh": transform.hardtanh, "swish": transform.sign_swish, "poly": transform.polynomial}
every_pair = pytest.mark.parametrize("name", PARTS)


def close(values: Tensor, expected: Tensor) -> bool:
    return torch.allclose(values, expected, rtol=1e-14, atol=1e-14)


def usual(pair: Pair) -> float:
    return pair.sharpness.start * 1.5 if pair.sharpness else 1.0


@every_pair
@pytest.mark.parametrize("outer", TRANSFORMS)
def test_a_composition_is_the_chain_rule(name: str, outer: str) -> None:
    pair, T = PARTS[name], TRANSFORMS[outer]
    made = compose(T, pair)
    mu = usual(made)
    inner = pair.forward(LINE, mu)
    assert close(made.forward(LINE, mu), T(inner, mu))
    assert close(made.backward(LINE, mu), T.derivative(inner, mu) * pair.backward(LINE, mu))
    assert made.prox == pair.prox
    assert made.name == f"{type(T).__name__}∘{name}"


@pytest.mark.covering(strength=1)
@every_pair
@pytest.mark.parametrize("outer", TRANSFORMS)
def test_a_composition_is_legitimate(name: str, outer: str) -> None:
    made = compose(TRANSFORMS[outer], PARTS[name])
    assert decompose(made, mu=usual(made) if made.sharpness else None).legitimate


def test_the_identity_composes_to_the_pair_itself() -> None:
    for name in ("bc", "bnn", "poly+"):
        made = compose(transform.identity, PARTS[name], name)
        assert made.slope == PARTS[name].slope
        assert torch.equal(made.forward(LINE, 2.0), PARTS[name].forward(LINE, 2.0))
        assert torch.equal(made.backward(LINE, 2.0), PARTS[name].backward(LINE, 2.0))


@pytest.mark.parametrize(
    ("outer", "name", "slope"),
    [
        ("hardtanh", "bc", "indicator"), ("hardtanh", "bnn", "indicator"), ("swish", "bc", "any"),
        ("hardtanh", "erf+", "any"),
    ],
)  # fmt: skip
def test_what_values_a_composed_backward_takes(outer: str, name: str, slope: str) -> None:
    made = compose(TRANSFORMS[outer], PARTS[name])
    assert made.slope == slope
    if slope == "indicator":
        assert set(made.backward(LINE, 1.0).tolist()) <= {0.0, 1.0}


def test_a_composition_knows_the_sharpness_of_both() -> None:
    made = compose(transform.error_decay, PARTS["pc"])
    assert made.sharpness == Sharpness(lowest=1.0, start=1.0, end=30.0)
    assert compose(transform.hardtanh, PARTS["bc"]).sharpness is None


@given(st.sampled_from(sorted(EVERY)), st.sampled_from(sorted(EVERY)), st.floats(0, 1), st.floats(1.0, 9.0))
def test_an_average_is_the_convex_combination_and_never_falls(a: str, b: str, weight: float, mu: float) -> None:
    made = average([EVERY[a], EVERY[b]], [weight, 1 - weight])
    values = made(LINE, mu)
    assert close(values, weight * EVERY[a](LINE, mu) + (1 - weight) * EVERY[b](LINE, mu))
    assert (values.diff() >= -1e-14).all()


def test_the_mean_of_sign_and_the_identity_is_binaryrelax() -> None:
    """At μ = 2; its potential, found by integration, is ½z² + ½dist²(z, ±1) up to a constant."""
    made = average([prox.sign, prox.identity])
    assert close(made(LINE, 1.0), prox.binaryrelax(LINE, 2.0))
    z = torch.linspace(0.5, 2.0, 31, dtype=torch.float64)
    difference = potential(made)(z) - (z**2 / 2 + (z - 1) ** 2 / 2)
    assert float(difference.max() - difference.min()) < 1e-9
    assert decompose(Pair("mean", prox=made)).legitimate


def test_the_average_is_the_prox_of_the_proximal_average() -> None:
    """Φ of the average is the conjugate of the mean of the conjugates, here on a grid, for clip and soft thresholds."""

    class Soft(Prox):
        def __call__(self, x: Tensor, mu: float | Tensor) -> Tensor:
            return x.sign() * (x.abs() - 0.5).clamp(min=0.0)

    clip = FixedProx(prox.parq, 1.0)
    x = torch.linspace(-8, 8, 3201, dtype=torch.float64)
    conjugate_of_clip = torch.where(x.abs() <= 1, x**2 / 2, x.abs() - 0.5)
    conjugate_of_soft = (x.abs() - 0.5).clamp(min=0) ** 2 / 2
    mean = 0.3 * conjugate_of_clip + 0.7 * conjugate_of_soft
    z = torch.linspace(-2, 2, 41, dtype=torch.float64)
    phi = (z[:, None] * x - mean).amax(1)
    found = potential(average([clip, Soft()], [0.3, 0.7]))(z)
    assert torch.allclose(found - found[20], phi - phi[20], rtol=0, atol=1e-5)  # half a grid step, squared


@pytest.mark.parametrize(
    ("proxes", "weights"),
    [
        ([], None), ([prox.sign, torch.neg], None), ([prox.sign], [0.9]), ([prox.sign, prox.tanh], [1.5, -0.5]),
        ([prox.sign, prox.tanh], [1.0]), ([prox.sign, prox.tanh], [float("nan"), 1.0]),
    ],
    ids=["none", "one that falls", "too little", "negative", "too few", "NaN"],
)  # fmt: skip
def test_what_is_no_convex_combination_is_refused(proxes: list[Prox], weights: list[float] | None) -> None:
    with pytest.raises(ValueError, match=r"average (takes at least one prox|needs a weight ≥ 0 for each)|prox falls"):
        average(proxes, weights)


def test_a_callable_is_averaged_as_a_prox_is() -> None:
    x = torch.linspace(-2, 2, 9)
    assert torch.allclose(average([prox.sign, torch.tanh])(x, 1.0), (prox.sign(x, 1.0) + x.tanh()) / 2)


def test_an_average_knows_the_sharpness_of_all() -> None:
    assert average([prox.tanh, prox.proxconnect]).sharpness == Sharpness(1.0, 1.0, 30.0)
    assert average([prox.sign, prox.outward]).sharpness is None


@pytest.mark.covering(together=("inner outer",))
@every_pair
@pytest.mark.parametrize(("inner", "outer"), [(2.0, 1.0), (0.5, 3.0), (3.0, -0.25)])
def test_rescaling_scales_both_axes(name: str, inner: float, outer: float) -> None:
    pair = PARTS[name]
    made, mu = rescale(pair, inner=inner, outer=outer), usual(pair)
    assert close(made.forward(LINE, mu), outer * pair.forward(inner * LINE, mu))
    assert close(made.backward(LINE, mu), outer * inner * pair.backward(inner * LINE, mu))
    assert made.sharpness == pair.sharpness


@every_pair
def test_what_is_rescaled_is_legitimate(name: str) -> None:
    made = rescale(PARTS[name], inner=3.0, outer=-0.25)
    assert decompose(made, mu=usual(made) if made.sharpness else None).legitimate


@pytest.mark.parametrize("width", [0.5, 1.0, 4.0])
def test_bnn_rescaled_is_the_rectangle_of_another_width(width: float) -> None:
    made = rescale(PARTS["bnn"], inner=width)
    assert torch.equal(made.forward(LINE), SURROGATES["rectangle"].forward(LINE, width))
    assert torch.equal(made.backward(LINE), SURROGATES["rectangle"].backward(LINE, width))


@pytest.mark.parametrize("name", [name for name in EVERY if name != "outward"])
def test_the_regularizer_of_a_rescaled_prox_is_that_of_its_argmin(name: str) -> None:
    """On a grid of step 1/4096 for a few x."""
    made = rescale(Pair(name, prox=EVERY[name]), inner=2.0).prox
    z = torch.arange(-2 * 4096, 2 * 4096 + 1, dtype=torch.float64) / 4096
    x = torch.tensor([-1.3, -0.6, -0.2, 0.1, 0.35, 0.9, 1.45], dtype=torch.float64)
    objective = (z - x[:, None]) ** 2 / 2 + made.regularizer(z, 1.5)
    at_p = (made(x, 1.5) - x) ** 2 / 2 + made.regularizer(made(x, 1.5), 1.5)
    assert (at_p <= objective.amin(1) + 1e-9).all()


@pytest.mark.parametrize(
    ("inner", "outer"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (float("inf"), 1.0), (1.0, float("nan"))]
)
def test_a_scale_that_is_none_is_refused(inner: float, outer: float) -> None:
    with pytest.raises(
        ValueError, match=r"inner must be positive and finite|outer (must be finite and not 0|takes a number)"
    ):
        rescale(PARTS["bnn"], inner=inner, outer=outer)


def test_a_pair_may_be_named() -> None:
    assert rescale("bnn", inner=2.0) == rescale(PARTS["bnn"], inner=2.0)
    assert compose(transform.sign_swish, "pc") == compose(transform.sign_swish, PARTS["pc"])


@pytest.mark.parametrize("given", ["bnn+", PAIRS["poly"], torch.tanh])
def test_what_has_no_decomposition_has_no_laws(given: object) -> None:
    for law in (rescale, lambda pair: compose(transform.sign_swish, pair)):
        with pytest.raises(TypeError, match=r"takes a Pair or its name.*theory\.correct"):
            law(given)


def test_a_callable_is_not_composed_without_its_derivative() -> None:
    with pytest.raises(TypeError, match="compose takes a Transform"):
        compose(torch.tanh, "bnn")  # type: ignore[arg-type]  # that is what is wrong


def test_the_identity_rescaled_is_the_identity_to_the_bit() -> None:
    made = rescale("bnn++", inner=3.0)
    assert made.prox == prox.identity
