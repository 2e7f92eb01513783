"""Verdicts on the catalogue, on surrogates of the literature and on pairs by hand, with their P, T and r."""

import functools
import math
import re
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from torch import Tensor

from proxconnect.pairs import PAIRS, SURROGATES, Heuristic, Pair, Prox, prox
from proxconnect.theory import Verdict, autograd_derivative, correct, decompose, synthesize
from proxconnect.theory.new_pairs.composition import CallableProx, CallableTransform

Map = Callable[[Tensor], Tensor]

# Of every pair at what sharpness; the domains are those of section 2, the answers those of section 3.
SOFT, FROM_ONE = (0.5, 1.0, 2.0, 5.0, 50.0), (1.0, 2.0, 5.0, 50.0)
CATALOGUE: dict[str, tuple[bool, tuple[float | None, ...]]] = {
    "fp": (True, (None,)),
    "bc": (True, (None,)),
    "pc": (True, FROM_ONE),
    "parq": (True, FROM_ONE),
    "binaryrelax": (True, FROM_ONE),
    "md": (True, SOFT),
    "bnn": (True, (None,)),
    "bnn+": (False, SOFT),
    "bnn++": (True, SOFT),
    "poly": (False, (None,)),
    "poly+": (True, SOFT),
    "ede": (False, SOFT),
    "ede+": (True, SOFT),
    "clip+": (True, SOFT),  # P = id, as for every correction
    "erf": (False, SOFT),  # F = sign, and B is a Gaussian
    "erf+": (True, SOFT),
}
every = [(name, mu) for name, (_, mus) in CATALOGUE.items() for mu in mus]
declared = [(name, mu) for name, mu in every if CATALOGUE[name][0]]

# F = sign for all of them, so that B must be constant up to where it ends.
SURROGATE: dict[str, tuple[bool, bool]] = {  # at the usual start and end of μ
    "arctan": (False, False),
    "superspike": (False, False),
    "slayer": (False, False),
    "logistic": (False, False),
    "rectangle": (True, True),  # μ up to 1/μ, then 0: bnn at another width
    "lsnn": (False, False),
    "fda": (False, False),
    "rbnn": (False, False),
    "dsq": (False, False),  # nearly constant at the start: 0.9934 to 1.0033
    "reste": (True, False),  # at o = 1 it is 1 up to 1.5, then 0
}


def sign(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0).to(x)


def step(x: Tensor, at: float) -> Tensor:
    return (x >= at).to(x)


def one(x: Tensor) -> Tensor:
    return torch.ones_like(x)


def inside(x: Tensor, half_width: float = 1.0) -> Tensor:
    return (x.abs() <= half_width).to(x)


@functools.cache
def found(name: str, mu: float | None) -> Verdict:
    """The verdict on a pair of the catalogue, which several laws are about."""
    return decompose(name, mu=mu)


def answer(verdict: Verdict) -> tuple[bool | None, bool]:
    return verdict.legitimate, verdict.by_convention


def points(low: float = -1000.0, high: float = 1000.0) -> Tensor:
    """Points of every size, among them 0, ±½ and ±1."""
    sizes = torch.logspace(-12, 3, 301, dtype=torch.float64)
    x = torch.cat([sizes, -sizes, torch.arange(-256, 257, dtype=torch.float64) / 64])
    return x[(x >= low) & (x <= high)]


def test_the_tables_are_of_what_there_is() -> None:
    assert set(CATALOGUE) == set(PAIRS)
    assert set(SURROGATE) == set(SURROGATES)


@pytest.mark.covering(strength=1)
@pytest.mark.parametrize(("name", "mu"), every)
def test_the_catalogue(name: str, mu: float | None) -> None:
    verdict = found(name, mu)
    legitimate, _ = CATALOGUE[name]
    assert answer(verdict) == (legitimate, False), str(verdict)
    assert verdict.declared is (True if legitimate else None)
    assert (verdict.name, verdict.mu) == (name, mu)
    assert (verdict.prox is None) == (verdict.transform is None) == (verdict.interval is not None) == (not legitimate)


@pytest.mark.covering(strength=1)
@pytest.mark.parametrize(("name", "mu"), every)
def test_the_catalogue_as_callables_that_declare_nothing(name: str, mu: float | None) -> None:
    pair = PAIRS[name]
    verdict = decompose(lambda x: pair.forward(x, mu), lambda x: pair.backward(x, mu))
    assert answer(verdict) == (CATALOGUE[name][0], False), str(verdict)
    assert verdict.declared is None


@pytest.mark.parametrize("name", SURROGATE)
@pytest.mark.parametrize("which", [0, 1], ids=["start", "end"])
def test_surrogates_of_the_literature(name: str, which: int) -> None:
    sharpness = SURROGATES[name].sharpness
    assert sharpness is not None
    verdict = decompose(SURROGATES[name], mu=(sharpness.start, sharpness.end)[which])
    assert answer(verdict) == (SURROGATE[name][which], False), str(verdict)


@pytest.mark.covering(strength=1)
@pytest.mark.parametrize(("name", "mu"), declared)
def test_they_come_back_as_they_are_declared(name: str, mu: float | None) -> None:
    """P everywhere, T and T' at every P(x), r there up to a constant."""
    pair, verdict, x = PAIRS[name], found(name, mu), points()
    assert isinstance(pair, Pair)
    sharpness = 1.0 if mu is None else mu
    p = pair.prox(x, sharpness)
    assert (verdict.prox(x) - p).abs().max() <= 1e-6
    assert (verdict.transform(p) - pair.transform(p, sharpness)).abs().max() <= 1e-6
    r = verdict.regularizer(p) - pair.prox.regularizer(p, sharpness)
    assert r.max() - r.min() <= 1e-6
    if name == "clip+":
        p = p[((p * sharpness).abs() - 1).abs() > 1e-12]  # T' jumps there, and P⁻¹(P(x)) is x to rounding only
    slopes = verdict.transform.derivative(p) - pair.transform.derivative(p, sharpness)
    assert slopes.abs().max() <= 1e-6 * max(1.0, sharpness)


def test_r_inside_the_gap_of_sign_and_beyond_its_range() -> None:
    """P⁻¹ = 0 in the gap: r' = -z, r = -½z² from -1 to 1; beyond, no x is mapped there."""
    z = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0, 1.1, -3.0], dtype=torch.float64)
    r = decompose("bc").regularizer(z)
    assert torch.allclose(r[:5] - r[2], -z[:5].square() / 2, atol=1e-12)
    assert r[5:].isposinf().all()


def test_an_asymmetric_pair_by_hand() -> None:
    """F = 2x below 0, x up to 0.3137, x + 1 up to 2, 3 beyond; with B = ½, P = 2F and T = z/2."""

    def F(x: Tensor) -> Tensor:
        return torch.where(x < 0, 2 * x, torch.where(x < 0.3137, x, (x + 1).clamp(max=3)))

    verdict = decompose(F, lambda x: one(x) / 2)
    x = torch.tensor([-7.0, -1.0, 0.0, 0.2, 0.3138, 1.0, 2.0, 500.0], dtype=torch.float64)
    expected = torch.tensor([-28.0, -4.0, 0.0, 0.4, 2.6276, 4.0, 6.0, 6.0], dtype=torch.float64)
    assert answer(verdict) == (True, False)
    assert torch.allclose(verdict.prox(x), expected, atol=1e-9)
    assert torch.allclose(verdict.transform(expected), expected / 2, atol=1e-9)
    z = torch.tensor([-8.0, 0.0, 0.5, 1.0, 3.0, 5.0, 6.0, 6.1], dtype=torch.float64)
    # r' = P⁻¹(z) - z: z/4 below 0, z/2 up to 0.6274, 0.3137 in the gap up to 2.6274, z/2 - 1 up to 6, each less z.
    edge, top = 0.6274, 2.6274
    at_edge = -(edge**2) / 4
    at_top = at_edge + 0.3137 * 2 - (top**2 - edge**2) / 2
    beyond = [at_top - (v**2 - top**2) / 4 - (v - top) for v in (3.0, 5.0, 6.0)]
    gap = at_edge + 0.3137 * (1.0 - edge) - (1 - edge**2) / 2
    r = torch.tensor([-24.0, 0.0, -1 / 16, gap, *beyond, math.inf], dtype=torch.float64)
    assert torch.allclose(verdict.regularizer(z), r, atol=1e-9)


Y, N, BY, BN = (True, False), (False, False), (True, True), (False, True)

# F, B, the answer, and why.
BY_HAND: dict[str, tuple[Map, Map, tuple[bool | None, bool]]] = {
    # bnn, and what misses it by a hair: on the plateau 0 <= x <= 1 B rises from 1 to 1.01.
    "bnn": (sign, inside, Y),
    "bnn with a tilt": (sign, lambda x: inside(x) * (1 + 0.01 * x * x), N),
    "bnn with a tilt of 1e-9": (sign, lambda x: inside(x) * (1 + 1e-9 * x * x), N),
    # Jumps at odd places: with B = 1, T is the identity and P = F.
    "a jump at 0.3137": (lambda x: x + step(x, 0.3137), one, Y),
    "a jump at -777.7": (lambda x: x + step(x, -777.7), one, Y),
    "a staircase": (lambda x: sum(step(x, a) for a in (-777.7, -2.2, 0.3137, 0.5, 12.3)), one, Y),  # type: ignore[dict-item]  # the sum of tensors is one
    "a staircase of a hundred steps": (lambda x: torch.floor(10 * x.clamp(-5, 5)), one, Y),
    "a step down in it": (lambda x: x - step(x, -777.7), one, BN),
    "a jump where B steps": (lambda x: x + step(x, 0.3137), lambda x: 1 + step(x, 0.3137), BY),
    "sign with B of either side": (sign, lambda x: 1 + step(x, 0.0), BY),
    "a jump where B has a root": (lambda x: x + step(x, 0.3137), lambda x: (x - 0.3137).abs().sqrt(), BN),
    "a jump where B is 0": (lambda x: sign(x - 1.5), inside, BN),
    # Plateaus: B constant on each of them will do, whatever it is; B that steps is for the convention.
    "clip with B = 1": (lambda x: x.clamp(-1, 1), one, Y),
    "clip with its slope": (lambda x: x.clamp(-1, 1), inside, Y),
    "clip with a wider slope": (lambda x: x.clamp(-1, 1), lambda x: inside(x, 1.1), Y),
    "clip with a narrower slope": (lambda x: x.clamp(-1, 1), lambda x: inside(x, 0.9), N),
    "clip with B that varies": (lambda x: x.clamp(-1, 1), lambda x: 2 + torch.cos(x), N),
    "relu with its slope": (lambda x: x.clamp(min=0), lambda x: (x > 0).to(x), Y),
    "leaky straight-through": (sign, lambda x: torch.where(x.abs() <= 1, 1.0, 0.1).to(x), BN),
    "two islands of B": (sign, lambda x: inside(x) + 1 - inside(x, 2.0), BY),
    "nothing moves, B = 1": (torch.zeros_like, one, Y),
    "nothing moves, B = 0": (torch.zeros_like, torch.zeros_like, Y),
    "nothing moves, B moves": (torch.zeros_like, torch.sin, N),
    # On paper a clip; in float64 its plateaus are the differences of what grows with x, and fall here and there.
    "a clip made of two relus": (lambda x: ((x - 0.1).clamp(min=0) - (x - 0.2).clamp(min=0)) / 2, one, Y),
    # A plateau from which F departs as x², and B with it: T = z + ⅔z^1.5 + ...
    "a plateau left slowly": (lambda x: x.clamp(min=0) ** 2, lambda x: 1 + x.clamp(min=0), Y),
    # Zeros of B on an interval.
    "F moves where B = 0": (lambda x: x, lambda x: 1 - inside(x - 0.3, 0.1), N),
    "F moves and B = 0": (lambda x: x, torch.zeros_like, N),
    # Isolated zeros: ∫dF/B by powers. |x|^-½, |x|^-1, |x|^-2; x²/x², x²/x⁴, x²/|x|; next to 1/x, either side of it.
    "(x, √|x|)": (lambda x: x, lambda x: x.abs().sqrt(), Y),
    "(x, |x|)": (lambda x: x, lambda x: x.abs(), N),
    "(x, x²)": (lambda x: x, lambda x: x * x, N),
    "(x³, x²)": (lambda x: x**3, lambda x: x**2, Y),
    "(x³, x⁴)": (lambda x: x**3, lambda x: x**4, N),
    "(x³, |x|)": (lambda x: x**3, lambda x: x.abs(), Y),
    "(1 + x³, |x|)": (lambda x: 1 + x**3, lambda x: x.abs(), Y),
    "(x, |x - 0.3137|^0.9)": (lambda x: x, lambda x: (x - 0.3137).abs() ** 0.9, Y),
    "(x, |x - 0.3137|^1.1)": (lambda x: x, lambda x: (x - 0.3137).abs() ** 1.1, N),
    "a root on one side": (lambda x: x, lambda x: torch.where(x < 0.3137, 1.0, (x - 0.3137).abs().sqrt()), Y),
    "a line on one side": (lambda x: x, lambda x: torch.where(x < 0.3137, 1.0, (x - 0.3137).abs()), N),
    # The vertical tangent of F at 0 adds half a power: |x|^(-½ - ¼), |x|^(-½ - 0.6).
    "(±√|x|, |x|^¼)": (lambda x: x.sign() * x.abs().sqrt(), lambda x: x.abs() ** 0.25, Y),
    "(±√|x|, |x|^0.6)": (lambda x: x.sign() * x.abs().sqrt(), lambda x: x.abs() ** 0.6, N),
    # Signs: P = ∫2x/x = 2x where both turn at 0, and it falls where one does.
    "(x², x)": (lambda x: x**2, lambda x: x, Y),
    "(x², |x|)": (lambda x: x**2, lambda x: x.abs(), N),
    "(x², ±√|x|)": (lambda x: x**2, lambda x: x.sign() * x.abs().sqrt(), Y),
    "(x³, x)": (lambda x: x**3, lambda x: x, N),
    "(-x, -1)": (lambda x: -x, lambda x: -one(x), Y),
    "(-x, 1)": (lambda x: -x, one, N),
    "(sign, -1)": (sign, lambda x: -one(x), BN),
    "(sign, 0)": (sign, torch.zeros_like, BN),
    "(-sign, -1)": (lambda x: -sign(x), lambda x: -one(x), Y),
    "|x| and its slope": (lambda x: (x - 0.3).abs(), lambda x: sign(x - 0.3), Y),
    # Kinks between grid points, with the slope of F or with 1.
    "a kink": (lambda x: x + (x - 0.123456).clamp(min=0), one, Y),
    "a kink and its slope": (lambda x: x + (x - 0.123456).clamp(min=0), lambda x: 1 + step(x, 0.123456), Y),
    "a kink downward": (lambda x: x - 2 * (x - 0.123456).clamp(min=0), one, N),
    # Where F glides, as far as float64 goes: ∫cosh² is finite everywhere.
    "(tanh, tanh'²)": (torch.tanh, lambda x: (1 - torch.tanh(x) ** 2) ** 2, Y),
    # A plateau is one however smoothly F came near its value.
    "tanh that stops at 10": (lambda x: torch.tanh(x.clamp(-10, 10)), lambda x: 1 / (1 + x * x), N),
    "tanh that stops at 0.9999": (lambda x: torch.tanh(x).clamp(-0.9999, 0.9999), lambda x: 1 / (1 + x * x), N),
    "tanh where B has a zero": (torch.tanh, torch.cos, N),
    # F = x⁷ moves by less than its rounding on |x| < 0.02, where |x|³ varies: on paper P = 7x⁴/4·sign, or a plateau.
    "(x⁷, |x|³)": (lambda x: x**7, lambda x: x.abs() ** 3, (None, False)),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_pairs_by_hand(name: str) -> None:
    F, B, expected = BY_HAND[name]
    verdict = decompose(F, B)
    assert answer(verdict) == expected, str(verdict)


def gaussian(x: Tensor) -> Tensor:
    return torch.exp(-x * x)


def rational(x: Tensor) -> Tensor:
    return 1 / (1 + x * x)


HIDDEN: dict[str, tuple[Map, Map, float, str]] = {  # F, B, where float64 ends, and what it does not show beyond
    "tanh, rational": (torch.tanh, rational, 15.8, "F moves by less than float64 shows"),
    "tanh, waves": (torch.tanh, lambda x: 1 + torch.cos(x) / 2, 15.8, "F moves by less than float64 shows"),
    "erf, rational": (torch.erf, rational, 5.5, "F moves by less than float64 shows"),
    "erf, a wide gaussian": (torch.erf, lambda x: gaussian(x / 20), 5.5, "F moves by less than float64 shows"),
    "sigmoid, rational": (torch.sigmoid, rational, 31.4, "F moves by less than float64 shows"),
    "sigmoid, 1/(1 + |x|)": (torch.sigmoid, lambda x: 1 / (1 + x.abs()), 31.4, "F moves by less than float64 shows"),
    "sigmoid, gaussian": (torch.sigmoid, gaussian, 18.0, "P = ∫dF/B is too large to be computed"),
    "arctan, gaussian": (torch.atan, gaussian, 18.0, "P = ∫dF/B is too large to be computed"),
    "arctan, 1 - tanh²": (torch.atan, lambda x: 1 - torch.tanh(x).square(), 19.1, "where B is lost in rounding"),
    "x, exp(-|x|)": (lambda x: x, lambda x: torch.exp(-x.abs()), 325.2, "P = ∫dF/B is too large to be computed"),
}


def test_the_derivative_of_autograd_and_its_verdict_are_the_same_under_inference_mode() -> None:
    B = autograd_derivative(torch.tanh)
    plain = torch.linspace(-2.0, 2.0, 9, dtype=torch.float64)
    with torch.inference_mode():
        made_there = torch.linspace(-2.0, 2.0, 9, dtype=torch.float64)
        slopes = B(plain), B(made_there)
        assert answer(decompose(torch.tanh)) == Y
    for slope in (*slopes, B(made_there)):
        assert torch.equal(slope, B(plain))
    assert B(plain).max() == 1


@pytest.mark.parametrize("name", HIDDEN)
def test_where_float64_hides_f_or_p_the_verdict_is_on_the_rest(name: str) -> None:
    """There P is the quadrature of F'/B, and F and B are functions of it."""
    F, B, end, said = HIDDEN[name]
    verdict, slope = decompose(F, B), autograd_derivative(F)
    assert answer(verdict) == Y, str(verdict)
    assert verdict.domain == pytest.approx((-end, end), rel=0.01)
    assert verdict.reason.startswith(f"For {verdict.domain[0]:.4g} < x < {verdict.domain[1]:.4g}, F and B are")
    assert said in verdict.reason.partition("; outside, ")[2]

    def rate(at: float) -> float:
        x = torch.tensor(at, dtype=torch.float64)
        return float(slope(x) / B(x))

    x = torch.tensor([-5.0, -1.7, -0.3, 0.3, 1.0, 4.1], dtype=torch.float64)
    p = [quad(rate, 0.0, at, epsabs=1e-10, epsrel=1e-10)[0] for at in x.tolist()]
    assert verdict.prox(x).tolist() == pytest.approx(p, rel=1e-8, abs=1e-8)
    x = torch.linspace(-0.99 * end, 0.99 * end, 41, dtype=torch.float64)
    assert (verdict.transform(verdict.prox(x)) - F(x)).abs().max() <= 1e-12
    assert (verdict.transform.derivative(verdict.prox(x)) - B(x)).abs().max() <= 1e-3  # P⁻¹ is steep at the ends
    assert verdict.prox(torch.tensor([-1.1, 1.1]) * end).isnan().all()


@pytest.mark.covering(together=("of_x of_f",))
@pytest.mark.parametrize("name", [name for name, mu in declared if mu in (None, 2.0)])
@pytest.mark.parametrize(("of_x", "of_f"), [(1.0, 1e-3), (1.0, 1e3), (0.2, 1.0), (7.0, 1.0)])
def test_the_units_do_not_matter(name: str, of_x: float, of_f: float) -> None:
    """(cF(ax), cB(ax)) has the T of (F, B) times c, and P(ax)."""
    pair = PAIRS[name]
    F, B = (lambda x, part=part: of_f * part(of_x * x, 2.0) for part in (pair.forward, pair.backward))
    assert answer(decompose(F, B)) == Y


def test_the_zero_that_a_root_passes_is_twice_the_root() -> None:
    x = points(-900, 900)
    verdict = decompose(lambda x: x, lambda x: x.abs().sqrt())
    assert (verdict.prox(x) - 2 * x.sign() * x.abs().sqrt()).abs().max() <= 1e-6
    z = torch.tensor([-3.0, -0.5, 0.0, 0.5, 3.0], dtype=torch.float64)  # x = z|z|/4
    assert torch.allclose(verdict.transform(z), z * z.abs() / 4, atol=1e-9)
    assert torch.allclose(verdict.transform.derivative(z), z.abs() / 2, atol=1e-6)


REASONS = {  # the rule, and where
    "bnn with a tilt": (r"F stays at 1, so P is flat there, but B is not constant: it goes from 1 to 1.01", (0, 1)),
    "F moves where B = 0": (r"F moves by 0.2 where B is 0", (0.2, 0.4)),
    "(-x, 1)": (r"F falls where B has the other sign", (-1000, 1000)),
    "a step down in it": (r"F jumps by -1 at x = -777.7, where B = 1 has the other sign", (-777.7, -777.7)),
    "a jump where B is 0": (r"F jumps by 2 at x = 1.5, where B is 0", (1.5, 1.5)),
    "(x, |x|)": (r"∫dF/B diverges at the zero of B at x = 0", (0, 2**-8)),
    "leaky straight-through": (r"F stays at 1, .* it goes from 0.1 to 1 in steps", (0, 1000)),
}


@pytest.mark.parametrize("name", REASONS)
def test_the_reason_names_the_rule_and_the_interval_the_place(name: str) -> None:
    F, B, _ = BY_HAND[name]
    verdict = decompose(F, B)
    reason, interval = REASONS[name]
    assert re.search(reason, verdict.reason)
    assert verdict.interval == pytest.approx(interval, abs=1e-12)


@pytest.mark.parametrize(
    ("B", "said"),
    [
        (lambda x: inside(x) * (1 + 1e-7 * x.square()), "it goes from 1 to 1.0000001"),
        (lambda x: 1 + 2 * (x == 0.5).double(), "it goes from 1 to 3 in steps"),
    ],
)
def test_values_that_differ_are_said_to(B: Map, said: str) -> None:
    assert said in decompose(sign, B).reason


@pytest.mark.parametrize(
    ("domain", "expected"),
    [((-1000.0, 1000.0), N), ((-1.0, 1.0), N), ((0.0, 0.5), N), ((1.5, 1000.0), Y), ((-3.0, -1.0), Y)],
)
def test_what_lies_outside_the_domain_does_not_count(domain: tuple[float, float], expected: tuple[bool, bool]) -> None:
    """poly has sign and (2 - 2|x|)₊: B varies up to 1 alone."""
    verdict = decompose("poly", domain=domain)
    assert answer(verdict) == expected
    assert verdict.domain == domain


def test_a_domain_may_end_where_the_functions_do() -> None:
    """log with its slope has P = id on (0, ∞); asin with √(1 - x²) has P = ½·log((1+x)/(1-x)), infinite at ±1."""
    assert answer(decompose(torch.log, torch.reciprocal, domain=(0.01, 50.0))) == Y
    assert answer(decompose(torch.asin, lambda x: (1 - x * x).sqrt(), domain=(-0.999, 0.999))) == Y
    assert answer(decompose(torch.asin, lambda x: (1 - x * x).sqrt(), domain=(-1.0, 1.0))) == N


def test_outside_the_domain_nothing_is_known() -> None:
    verdict = decompose("fp", domain=(-2.0, 3.0))
    x = torch.tensor([-2.5, -2.0, 1.0, 3.0, 3.5, math.nan])
    known = [False, True, True, True, False, False]
    for curve in (verdict.prox, verdict.transform, verdict.transform.derivative, verdict.regularizer):
        assert curve(x).isfinite().tolist() == known


class Straight(torch.autograd.Function):
    """sign, with the gradient of B."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return sign(x)


class Bnn(Straight):
    @staticmethod
    def backward(ctx, g: Tensor) -> Tensor:
        return g * inside(ctx.saved_tensors[0])


class Triangle(Straight):
    @staticmethod
    def backward(ctx, g: Tensor) -> Tensor:
        return g * (2 - 2 * ctx.saved_tensors[0].abs()).clamp(min=0)


def straight_through(x: Tensor) -> Tensor:
    """bc as it is often written."""
    return x + (sign(x) - x).detach()


@pytest.mark.parametrize(
    ("forward", "expected"),
    [
        (Bnn.apply, Y),
        (Triangle.apply, N),
        (straight_through, Y),
        (torch.tanh, Y),  # B = F'
        (torch.nn.Hardtanh(), Y),
        (lambda x: x.clamp(-1, 1) + (sign(x) - x.clamp(-1, 1)).detach(), Y),  # bnn once more
        (sign, BN),  # of a constant result autograd knows no gradient: B = 0
    ],
)
def test_without_a_backward_autograd_says_what_it_is(forward: Map, expected: tuple[bool, bool]) -> None:
    assert answer(decompose(forward)) == expected


@pytest.mark.parametrize(("function", "expected"), [(Bnn, Y), (Triangle, N)])
def test_an_autograd_function_may_be_given_itself_and_has_its_name(
    function: type[Straight], expected: tuple[bool, bool]
) -> None:
    for given_so in (function, function.apply):
        verdict = decompose(given_so)
        assert answer(verdict) == expected
        assert verdict.name == function.__name__


def test_curves_keep_shape_and_dtype() -> None:
    verdict = decompose("bnn")
    for x in (torch.zeros(()), torch.zeros(0), torch.zeros(2, 3, dtype=torch.float16), torch.zeros(2, 1).double()):
        for curve in (verdict.prox, verdict.transform, verdict.transform.derivative, verdict.regularizer):
            assert (curve(x).shape, curve(x).dtype) == (x.shape, x.dtype)


def test_a_verdict_says_it_in_one_line() -> None:
    lines = {str(decompose("bnn+", mu=2.0)), str(decompose(sign, torch.zeros_like)), str(decompose("fp"))}
    assert any(line.startswith("bnn+ at μ = 2: not legitimate. F stays at 1,") for line in lines)
    assert any(line.startswith("sign: not legitimate (by convention). F jumps by 2 at x = 0,") for line in lines)
    assert any(line.startswith("fp: legitimate. F and B are functions of P") for line in lines)


TURN = CallableTransform(lambda p: p * (2 - p * p), lambda p: 2 - 3 * p * p)
"""T(±1) = ±1 and T'(±1) = -1, so that T goes up and down again inside the gap of sign."""
FALLING = CallableProx(torch.neg)


def test_a_pair_that_declares_another_t_than_the_convention_is_believed() -> None:
    """As callables (sign, -1) falls; declared by `TURN` it is legitimate without any convention."""
    verdict = decompose(Pair("turn", prox=prox.sign, transform=TURN))
    assert answer(verdict) == Y
    assert verdict.declared is True
    z = torch.tensor([-1.0, 0.5, 1.0])
    assert torch.equal(verdict.transform(z), TURN(z, 1.0))
    assert torch.equal(verdict.prox(z), prox.sign(z, 1.0))


@pytest.mark.parametrize(
    ("name", "P", "T", "legitimate", "reason"),
    [
        ("double", prox.identity, (lambda p: 2 * p, one), True, r"declared T' is 1 near .*, where T has slope 2"),
        ("broken", prox.identity, (lambda p: p + step(p, 2.0), one), True, r"declared T jumps by 1 at p = 2"),
        ("spiked", prox.sign, (torch.clone, lambda p: torch.where(p.abs() == 1, 5.0, 1.0).to(p)), True,
         r"P stays at p = -1, where the declared T' is 5"),
        ("falling", FALLING, (torch.clone, one), False, r"F falls where B has the other sign"),
        ("fallen", FALLING, (torch.neg, lambda p: -one(p)), False, r"F rises where B has the other sign"),
    ],
)  # fmt: skip
def test_a_pair_is_held_against_its_declaration(
    name: str, P: Prox, T: tuple[Map, Map], legitimate: bool, reason: str
) -> None:
    """F = 2x and B = 1 are a pair, but not by that T and P; a prox that falls makes none."""
    verdict = decompose(Pair(name, prox=P, transform=CallableTransform(*T)))
    assert (verdict.legitimate, verdict.declared) == (legitimate, False)
    assert re.search(reason, verdict.reason)


def test_a_declaration_that_holds_decides_where_rounding_hides_it() -> None:
    """Far from its two bumps B is below 1e-13, and its integral from a table moves by more."""
    bump = correct(lambda x: torch.exp(-(((x.abs() - 0.5) / 0.005) ** 2)), name="bump", normalise=True)
    assert answer(decompose(bump, mu=1.0)) == Y


def test_a_heuristic_may_be_legitimate() -> None:
    """It declares nothing; here it is bnn."""
    verdict = decompose(Heuristic("mine", forward=lambda x, mu: sign(x), backward=lambda x, mu: inside(x)))
    assert answer(verdict) == Y
    assert verdict.declared is None


@st.composite
def monotone(draw: st.DrawFn) -> tuple[list[float], list[float], list[float]]:
    """Places in (-5, 5), the slopes of P between them, and its jumps there."""
    places = sorted(draw(st.sets(st.integers(-49, 49), min_size=1, max_size=4)))
    slopes = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=len(places) + 1, max_size=len(places) + 1))
    jumps = draw(st.lists(st.sampled_from([0.0, 0.25, 2.0]), min_size=len(places), max_size=len(places)))
    return [place / 10 + 0.0137 for place in places], slopes, jumps


def piecewise(places: list[float], slopes: list[float], jumps: list[float]) -> Map:
    """P, with P = 0 just before the first place."""

    def P(x: Tensor) -> Tensor:
        p, start = slopes[0] * (x - places[0]), 0.0
        for i, place in enumerate(places):
            start += jumps[i] + (slopes[i] * (place - places[i - 1]) if i else 0.0)
            p = torch.where(x < place, p, start + slopes[i + 1] * (x - place))
        return p

    return P


transforms = st.tuples(st.sampled_from([-1.0, 1.0, 0.3]), st.sampled_from([0.0, 0.4, -0.7]))
"""T(p) = a(p + b·tanh p), whose slope is never 0."""


@settings(max_examples=5)
@given(monotone(), transforms)
def test_what_is_synthesized_decomposes_again(
    parts: tuple[list[float], list[float], list[float]], form: tuple[float, float]
) -> None:
    (a, b), P = form, piecewise(*parts)
    pair = synthesize(lambda p: a * (p + b * torch.tanh(p)), P, "random")
    x = torch.linspace(-40, 40, 1601, dtype=torch.float64)
    for verdict in (
        decompose(pair, domain=(-50.0, 50.0)),
        decompose(pair.forward, pair.backward, domain=(-50.0, 50.0)),
    ):
        assert verdict.legitimate is True, str(verdict)
        p = verdict.prox(x)
        assert (verdict.transform(p) - pair.forward(x)).abs().max() <= 1e-6
        assert (verdict.transform.derivative(p) - pair.backward(x)).abs().max() <= 1e-5
        off = p - P(x)  # a constant on each stretch, and on all of the line where T is straight in the gaps
        ends = torch.tensor([-40.0, *parts[0], 40.0], dtype=torch.float64)
        stretches = [off[(x > low) & (x < high)] for low, high in pairwise(ends)]
        for stretch in stretches if b else [off]:
            assert stretch.max() - stretch.min() <= 1e-6
